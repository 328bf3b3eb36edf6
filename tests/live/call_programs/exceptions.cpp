// Exceptions through traced functions: return probes would end the program.
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#define NOINLINE __attribute__((noinline, noipa))

namespace shop {

NOINLINE int checked(int x)
{
	if (x % 2)
		throw std::runtime_error("odd");
	return x / 2;
}

class Cart {
public:
	NOINLINE int add(int x)
	{
		std::string note = std::to_string(x); // its destructor runs while the stack is unwound
		return checked(x) + (int)note.size();
	}
};

} // namespace shop

NOINLINE int caught(shop::Cart &cart, int x)
{
	try {
		return cart.add(x);
	} catch (const std::exception &) {
		return -1;
	}
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? std::atoi(argv[1]) : 4, odd = 0;
	shop::Cart cart;
	for (int i = 0; i < count; i++)
		odd += caught(cart, i) < 0;
	std::printf("odd=%d\n", odd);
	return 0;
}
