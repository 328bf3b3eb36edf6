/* SPDX-License-Identifier: GPL-2.0 */
#include <linux/linkage.h>

/* copy_by_assembly(to, from, words): no call of ftrace at its start, so that it cannot be traced. */
SYM_FUNC_START(copy_by_assembly)
	movq %rdx, %rcx
	rep movsq
	RET
SYM_FUNC_END(copy_by_assembly)
