/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A fixed workload as a 64 KiB ROM (-bios), in 32-bit protected mode, that ends through
 * isa-debug-exit.  Set with as --defsym: INT_ROUNDS and MEM_ROUNDS, each 0 or more.
 *   integer round: 100,000 times 8 instructions of arithmetic and two branches, no memory
 *   memory round:  256 KiB read, changed and written back word by word, then 4 MiB read by cache
 *                  lines: 65,536 loads and stores, and 65,536 loads
 */
    .text
    .globl _start
_start:
    .code32
work:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $0x8000, %esp
    movl $INT_ROUNDS, %ebp
1:  testl %ebp, %ebp
    jz 3f
    movl $100000, %ecx
    movl $1, %eax
2:  addl %ecx, %eax
    roll $5, %eax
    xorl %eax, %edx
    leal 7(%edx,%eax,2), %ebx
    testl $0x400, %ebx
    jz 21f
    subl %ebx, %edx
21: decl %ecx
    jnz 2b
    decl %ebp
    jmp 1b
3:  movl $MEM_ROUNDS, %ebp
4:  testl %ebp, %ebp
    jz 7f
    movl $0x100000, %esi
    movl $65536, %ecx
5:  movl (%esi), %eax
    addl %ecx, %eax
    movl %eax, (%esi)
    addl $4, %esi
    decl %ecx
    jnz 5b
    movl $0x100000, %esi
    movl $65536, %ecx
6:  addl (%esi), %edx
    addl $64, %esi
    decl %ecx
    jnz 6b
    decl %ebp
    jmp 4b
7:  movw $0xf4, %dx
    xorl %eax, %eax
    outl %eax, %dx
8:  cli
    hlt
    jmp 8b

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9a000000ffff    /* code, flat */
    .quad 0x00cf92000000ffff    /* data, flat */
gdtr:
    .word 23
    .long 0xf0000 + gdt

    .code16
enter:
    cli
    lgdtl %cs:gdtr
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $8, $(0xf0000 + work)

    .org 0xfff0
    ljmp $0xf000, $enter
    .org 0x10000
