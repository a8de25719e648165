/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest in phases, in 32-bit protected mode with paging off: what each phase executes is counted
 * in the comments; level-test.c holds the sums.  The host starts a phase by a byte on the first
 * serial port ('a' to 'f') and learns its end from the byte that comes back; between phases the
 * processor polls the port, so what a phase counts is the difference of two readings only where no
 * poll counts: sums of loads, stores, calls and returns, strings, system calls and MMIO, none of
 * which polling has.
 */
    .text
    .globl _start
_start:
    .code32
main:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $0x8000, %esp
    /* an interrupt table with one gate, 0x80: at 0x1000, descriptor for handler */
    movl $0x00080000 + handler_low, 0x1400
    movl $0x000f8e00, 0x1404
    lidtl %cs:0xf0000 + idtr
next:
    movw $0x3fd, %dx
1:  inb %dx, %al
    testb $1, %al
    jz 1b
    movw $0x3f8, %dx
    inb %dx, %al
    movb %al, %bl
    cmpb $'a', %bl
    je phase_a
    cmpb $'b', %bl
    je phase_b
    cmpb $'c', %bl
    je phase_c
    cmpb $'d', %bl
    je phase_d
    cmpb $'e', %bl
    je phase_e
    cmpb $'f', %bl
    je phase_f
done:
    movb %bl, %al
    movw $0x3f8, %dx
    outb %al, %dx
    jmp next

/* a: 100,000 rounds over 300 pages, a load and a store each: 300 pages, nothing else in memory */
phase_a:
    movl $100000, %ecx
    movl $0x400000, %esi
1:  addl $1, (%esi)             /* L100000 S100000 */
    addl $4096, %esi
    cmpl $0x400000 + 300 * 4096, %esi
    jb 2f
    movl $0x400000, %esi
2:  decl %ecx
    jnz 1b
    jmp done

/* b: 5000 system calls with numbers 7 and 600 in turn, and as many calls and returns */
phase_b:
    movl $5000, %ecx
1:  movl $7, %eax
    int $0x80                   /* 5000; and IRET with L3 each */
    movl $600, %eax
    int $0x80                   /* 5000; and IRET with L3 each */
    call function               /* S5000 */
    decl %ecx
    jnz 1b
    jmp done
function:
    ret                         /* L5000 */
handler:
    iret

/* c: 1000 times 64 words moved by one repeated instruction, and 1000 single ones */
phase_c:
    movl $1000, %ebp
    cld
1:  movl $0x400000, %esi
    movl $0x500000, %edi
    movl $64, %ecx
    rep movsl                   /* L64000 S64000 */
    movsl                       /* L1000 S1000 */
    decl %ebp
    jnz 1b
    jmp done

/* d: 2000 reads of the local APIC's identification, a device in memory space, in mid-block; and
 * 1000 changes of address space (paging stays off) */
phase_d:
    movl $2000, %ecx
1:  movl 0xfee00020, %eax       /* L2000 */
    decl %ecx
    jnz 1b
    movl $500, %ecx
2:  movl $0x123000, %eax
    movl %eax, %cr3
    movl $0x456000, %edx
    movl %edx, %cr3
    decl %ecx
    jnz 2b
    jmp done

/* e: as a, 400,000 rounds over 8000 pages */
phase_e:
    movl $400000, %ecx
    movl $0x400000, %esi
1:  addl $1, (%esi)             /* L400000 S400000 */
    addl $4096, %esi
    cmpl $0x400000 + 8000 * 4096, %esi
    jb 2f
    movl $0x400000, %esi
2:  decl %ecx
    jnz 1b
    jmp done

/* f: 20,000 pieces of code of their own, written, and run twice: more than a small code buffer of
 * QEMU holds */
phase_f:
    movl $20000, %ecx
    movl $0x2800000, %esi
1:  movb $0xb8, (%esi)          /* S20000: mov $ecx, %eax */
    movl %ecx, 1(%esi)          /* S20000 */
    movb $0xc3, 5(%esi)         /* S20000: ret */
    addl $16, %esi
    decl %ecx
    jnz 1b
    movl $2, %ebp
2:  movl $20000, %ecx
    movl $0x2800000, %esi
3:  call *%esi                  /* S40000; L40000 of the return */
    addl $16, %esi
    decl %ecx
    jnz 3b
    decl %ebp
    jnz 2b
    jmp done

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9a000000ffff    /* code, flat */
    .quad 0x00cf92000000ffff    /* data, flat */
gdtr:
    .word 23
    .long 0xf0000 + gdt
idtr:
    .word 0x7ff
    .long 0x1000

    .code16
enter:
    cli
    lgdtl %cs:gdtr
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $8, $(0xf0000 + main)

    .set handler_low, handler
    .org 0xfff0
    ljmp $0xf000, $enter
    .org 0x10000
