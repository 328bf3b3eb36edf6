// Small C++ programs with leaks: each case is one, by name.
#include "rounded.h"

#include <cstdio>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <set>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

// Sizes and contents as block() has them.
void *operator new(size_t size) { return block(size); }
void *operator new[](size_t size) { return block(size); }
void operator delete(void *place) noexcept { free(place); }
void operator delete[](void *place) noexcept { free(place); }
void operator delete(void *place, size_t) noexcept { free(place); }
void operator delete[](void *place, size_t) noexcept { free(place); }

struct Shape {
	virtual ~Shape() {}
	virtual double area() { return 1; }
	double sides[4] = {};
};
struct Named {
	virtual ~Named() {}
	virtual const char *name() { return "shape"; }
	long number = 0;
};
struct Both : Shape, Named {
	long own = 0;
};
struct Plain {
	long first = 0, second = 0;
};
struct Other {
	long third = 0;
};
struct TwoPlain : Plain, Other {
};
struct Owner {
	Shape *shape = new Shape;
	std::string name = std::string(100, 'n');
};
struct Counted {
	~Counted() { gone++; }
	long values[5] = {};
	static int gone;
};
int Counted::gone;
struct Ring {
	std::shared_ptr<Ring> next;
	long value = 0;
};
struct Base {
	virtual ~Base() {}
	long base = 0;
};
struct Left : virtual Base {
	long left = 0;
};
struct Right : virtual Base {
	long right = 0;
};
struct Diamond : Left, Right {
	long own = 0;
};

static void *kept;
static Shape *shape;
static Named *named;
static Other *other;
static Counted *counted;
static Base *base;

static void object_lost() { new Shape; }
static void object_kept() { shape = new Shape; }
static void objects_lost() { for (int at = 0; at < 20; at++) new Shape; for (int at = 0; at < 10; at++) new Both; }
static void second_base_kept() { named = new Both; }
static void second_base_without_table() { other = new TwoPlain; }
static void virtual_base_kept() { base = new Diamond; }
static void array_with_count_kept() { counted = new Counted[10]; }
static void array_with_count_lost() { new Counted[10]; }
static void array_without_count() { kept = new long[33]; new long[44]; }
static void owner_lost() { new Owner; }
static void owner_kept() { kept = new Owner; }
static void string_kept() { kept = new std::string(200, 'x'); }
static void string_lost() { new std::string(200, 'x'); new std::string("short"); }
static void vector_kept() { kept = new std::vector<long>(100); }
static void vector_lost() { auto *all = new std::vector<std::string>; for (int at = 0; at < 40; at++) all->push_back(std::string(60 + at, 'v')); }
static void vector_of_pointers() { auto *all = new std::vector<Shape *>; for (int at = 0; at < 30; at++) all->push_back(new Shape); kept = all; }
static void vector_cleared() { auto *all = new std::vector<Shape *>; for (int at = 0; at < 30; at++) all->push_back(new Shape); all->assign(30, nullptr); kept = all; }
static void list_kept() { auto *all = new std::list<long>; for (int at = 0; at < 30; at++) all->push_back(at); kept = all; }
static void list_lost() { auto *all = new std::list<long>; for (int at = 0; at < 30; at++) all->push_back(at); }
static void map_kept() { auto *all = new std::map<long, std::string>; for (int at = 0; at < 50; at++) (*all)[at] = std::string(40, 'm'); kept = all; }
static void map_lost() { auto *all = new std::map<long, std::string>; for (int at = 0; at < 50; at++) (*all)[at] = std::string(40, 'm'); }
static void set_of_pointers() { auto *all = new std::set<Shape *>; for (int at = 0; at < 20; at++) all->insert(new Shape); kept = all; }
static void hash_kept() { auto *all = new std::unordered_map<long, long>; for (int at = 0; at < 200; at++) (*all)[at] = at; kept = all; }
static void hash_lost() { auto *all = new std::unordered_map<long, long>; for (int at = 0; at < 200; at++) (*all)[at] = at; }
static void deque_kept() { auto *all = new std::deque<long>; for (int at = 0; at < 300; at++) all->push_back(at); kept = all; }
static void deque_lost() { auto *all = new std::deque<long>; for (int at = 0; at < 300; at++) all->push_front(at); }
static void shared_kept() { kept = new std::shared_ptr<Plain>(std::make_shared<Plain>()); }
static void shared_ring() { auto one = std::make_shared<Ring>(), two = std::make_shared<Ring>(); one->next = two; two->next = one; }
static void released() { std::unique_ptr<Shape> one(new Shape); one.release(); std::unique_ptr<Shape> two(new Shape); }
static void function_kept() { long a = 1, b = 2, c = 3, d = 4; kept = new std::function<long()>([=] { return a + b + c + d; }); }
static void after_exception()
{
	try {
		new Shape;
		throw std::runtime_error("a message that is long enough to be on the heap");
	} catch (const std::exception &) {
	}
}

static const struct {
	const char *name;
	void (*run)();
} cases[] = {
#define CASE(name) { #name, name }
	CASE(object_lost), CASE(object_kept), CASE(objects_lost), CASE(second_base_kept), CASE(second_base_without_table),
	CASE(virtual_base_kept), CASE(array_with_count_kept), CASE(array_with_count_lost), CASE(array_without_count),
	CASE(owner_lost), CASE(owner_kept), CASE(string_kept), CASE(string_lost), CASE(vector_kept), CASE(vector_lost),
	CASE(vector_of_pointers), CASE(vector_cleared), CASE(list_kept), CASE(list_lost), CASE(map_kept), CASE(map_lost),
	CASE(set_of_pointers), CASE(hash_kept), CASE(hash_lost), CASE(deque_kept), CASE(deque_lost), CASE(shared_kept),
	CASE(shared_ring), CASE(released), CASE(function_kept), CASE(after_exception),
};

int main(int count, char **arguments)
{
	for (const auto &each : cases) {
		if (count < 2) {
			dprintf(1, "%s\n", each.name);
		} else if (is_asked(each.name, arguments[1])) {
			each.run();
			scrub();
			look();
		}
	}
	return 0;
}
