"""One command under two kernels: is it the kernel?"""
