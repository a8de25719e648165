/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The known-answer guest: a 64 KiB ROM (-bios) whose every instruction, load, store and system call is
 * counted in the comments; plugin-test.c holds the sums.  Real mode throughout; interrupts stay off.
 * The first processor prepares, starts all others by INIT and SIPI over x2APIC registers, does its
 * own work and halts; each other processor does the work at offset 0 (the SIPI vector 0xf0 is this
 * ROM's copy below 1 MiB) and halts.
 *
 * Columns: instructions, loads (L), stores (S).  What the processor itself reads and writes to
 * deliver an interrupt is not an instruction's access and is not counted; what IRET pops is.
 */
    .code16
    .text
    .globl _start
_start:
other:                          /* every other processor, CS:IP = f000:0000 */
    cli                         /* 1 */
    xorw %ax, %ax               /* 1 */
    movw %ax, %ds               /* 1 */
    movw %ax, %ss               /* 1 */
    movw $0x100, %ax            /* 1 */
    lock xaddw %ax, 0x520       /* 1  L1 S1: a stack of 256 bytes of its own */
    addw $0x4000, %ax           /* 1 */
    movw %ax, %sp               /* 1 */
    movw $2000, %cx             /* 1 */
1:  decw %cx                    /* 2000 */
    jnz 1b                      /* 2000 */
    movw $400, %cx              /* 1 */
2:  movl 0x500, %eax            /* 400  L400 */
    decw %cx                    /* 400 */
    jnz 2b                      /* 400 */
    movw $70, %cx               /* 1 */
3:  int $0x80                   /* 70, and 70 of IRET with L3 each */
    decw %cx                    /* 70 */
    jnz 3b                      /* 70 */
    hlt                         /* 1 */
4:  jmp 4b

handler:
    iret                        /* 1  L3 */

first:
    cli                         /* 1 */
    xorw %ax, %ax               /* 1 */
    movw %ax, %ds               /* 1 */
    movw %ax, %ss               /* 1 */
    movw $0x7000, %sp           /* 1 */
    movw $handler, 0x200        /* 1  S1 */
    movw $0xf000, 0x202         /* 1  S1 */
    movw $0, 0x520              /* 1  S1 */
    movl $0x1b, %ecx            /* 1: IA32_APIC_BASE */
    rdmsr                       /* 1 */
    orl $0xc00, %eax            /* 1: APIC on, x2APIC mode */
    wrmsr                       /* 1 */
    movl $0x830, %ecx           /* 1: ICR */
    xorl %edx, %edx             /* 1 */
    movl $0xc4500, %eax         /* 1: INIT, all but self */
    wrmsr                       /* 1 */
    movl $0xc46f0, %eax         /* 1: SIPI, vector 0xf0, all but self */
    wrmsr                       /* 1 */
    movw $1000, %cx             /* 1 */
1:  decw %cx                    /* 1000 */
    jnz 1b                      /* 1000 */
    movw $500, %cx              /* 1 */
2:  movl 0x500, %eax            /* 500  L500 */
    decw %cx                    /* 500 */
    jnz 2b                      /* 500 */
    movw $300, %cx              /* 1 */
3:  movl %eax, 0x510            /* 300  S300 */
    decw %cx                    /* 300 */
    jnz 3b                      /* 300 */
    movw $200, %cx              /* 1 */
4:  int $0x80                   /* 200, and 200 of IRET with L3 each */
    decw %cx                    /* 200 */
    jnz 4b                      /* 200 */
    incl 0x508                  /* 1  L1 S1 */
    pushw %ax                   /* 1  S1 */
    popw %ax                    /* 1  L1 */
    hlt                         /* 1 */
5:  jmp 5b

    .org 0xfff0
    ljmp $0xf000, $first        /* 1: the reset vector */
    .org 0x10000
