/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that never ends and never halts on its first processor: an endless mix of arithmetic,
 * loads, stores and system calls, for tests that watch counters grow.
 */
    .code16
    .text
    .globl _start
_start:
handler:
    iret

first:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw $0x7000, %sp
    movw $handler, 0x200
    movw $0xf000, 0x202
1:  movw $1000, %cx
2:  movl 0x500, %eax
    addl %ecx, %eax
    movl %eax, 0x504
    decw %cx
    jnz 2b
    int $0x80
    jmp 1b

    .org 0xfff0
    ljmp $0xf000, $first
    .org 0x10000
