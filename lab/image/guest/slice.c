/*
 * Prints what the first page of a PCI function's BAR says: slice FILE, with
 * FILE its resource0 in sysfs. Needs no C library, so that it fits any initrd.
 */
#define O_RDWR 2
#define PROT_READ 1
#define MAP_SHARED 1
#define WORDS 64

static long call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall" : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

/* Words, because each access may be a trip to the host. */
static int show(const volatile unsigned int *bar)
{
	union {
		unsigned int words[WORDS];
		char text[WORDS * 4];
	} page;
	int i, n = 0;

	for (i = 0; i < WORDS; i++) {
		page.words[i] = bar[i];
		if (!(page.words[i] >> 24))
			break;
	}
	while (n < i * 4 + 3 && n < WORDS * 4 - 1 && page.text[n] >= ' ' && page.text[n] <= '~')
		n++;
	page.text[n] = '\n';
	return n > 0 && call(1, 1, (long)page.text, n + 1, 0, 0, 0) == n + 1 ? 0 : 1;
}

__attribute__((used)) static void start(long *stack)
{
	long fd, bar, code = 1;

	if (stack[0] == 2) {
		fd = call(2, stack[2], O_RDWR, 0, 0, 0, 0);
		bar = fd < 0 ? fd : call(9, 0, 4096, PROT_READ, MAP_SHARED, fd, 0);
		if (bar > 0)
			code = show((const volatile unsigned int *)bar);
	}
	call(60, code, 0, 0, 0, 0, 0);
}

__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall start\n");
