/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that is busy and halted in turn, half a second each, by the ticks of its timer (20 a
 * second).  At 0x500 it counts ticks, at 0x504 finished rounds.
 */
    .code16
    .text
    .globl _start
_start:
tick:                           /* IRQ 0 */
    pushw %ax
    incw 0x500
    movb $0x20, %al
    outb %al, $0x20
    popw %ax
    iret

first:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw $0x7000, %sp
    movw %ax, 0x500
    movw %ax, 0x504
    movw $tick, 0x20            /* vector 8 */
    movw $0xf000, 0x22
    movl $0x1b, %ecx            /* without its APIC, whose inputs are masked after a reset */
    rdmsr
    andl $~0x800, %eax
    wrmsr
    movb $0x11, %al             /* interrupt controller: from vector 8, the timer alone */
    outb %al, $0x20
    movb $8, %al
    outb %al, $0x21
    movb $4, %al
    outb %al, $0x21
    movb $1, %al
    outb %al, $0x21
    movb $0xfe, %al
    outb %al, $0x21
    movb $0xff, %al
    outb %al, $0xa1
    movb $0x34, %al             /* timer 0, rate generator: 1193182 / 59659 Hz */
    outb %al, $0x43
    movb $0x0b, %al
    outb %al, $0x40
    movb $0xe9, %al
    outb %al, $0x40
    sti
round:
    movw 0x500, %bx
    addw $10, %bx
1:  hlt
    cmpw %bx, 0x500
    jne 1b
    addw $10, %bx
2:  cmpw %bx, 0x500
    jne 2b
    incw 0x504
    jmp round

    .org 0xfff0
    ljmp $0xf000, $first
    .org 0x10000
