"""One workload under two kernels: is the kernel slower?"""
