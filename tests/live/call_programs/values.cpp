#include <string>
#include <vector>
#include <cstdio>
#include <stdexcept>
#include <map>
#include <string_view>
#include <memory>
#define N __attribute__((noinline,noipa))
namespace shop {
enum class Colour { red, green = 5, blue };
enum Plain { A, B };
struct Point { int x, y; };
struct Big { long a, b, c; char name[8]; };
struct Mix { double d; int i; };
struct Bits { unsigned a:3, b:5; int c:7; };
union U { int i; float f; char c[8]; };
struct Line { Point from, to; };
class Cart {
public:
  int total = 7; std::string owner;
  N int add(int n, const std::string &what) { return total += n + what.size(); }
  N virtual ~Cart() {}
  N const std::string &name() const { return owner; }
};
N int byref(int &x, const Point &p) { return x + p.x; }
N int byval(Point p, Big b, int z) { return p.x + b.a + z; }
N int line(Line l, int z) { return l.from.x + z; }
N double mix(Mix m, double e, float f, int z) { return m.d + e + f + z; }
N bool flag(bool b, Colour c, Plain p, char ch) { return !b; }
N int bits(Bits b, U u) { return b.a; }
N std::string str(std::string s, const std::string &t) { return s + t; }
N std::vector<int> vec(const std::vector<int> &v, std::vector<std::string> w) { return v; }
N int cb(int (*f)(const char *)) { return f("x"); }
N Point ret(int x) { return {x, x + 1}; }
N Big big(int x) { return {x, x, x, "abc"}; }
N int many(int a, int b, int c, int d, int e, int f, int g, const char *h) { return g; }
N int sv(std::string_view s) { return s.size(); }
N int up(std::unique_ptr<Point> p, std::shared_ptr<Point> q) { return p->x; }
N int arr(char (&a)[8], const char *const *argv) { return a[0]; }
N int rv(std::string &&s) { return s.size(); }
N int over(int a) { return a; }
N int over(const char *a) { return a[0]; }
template<class T> N T tw(T a) { return a; }
}
static N int sfun(int a) { return a + 1; }
N int atoi2(const char *s) { return 3; }
int main(int argc, char **argv) {
  using namespace shop;
  int x = 3; Point p{1, 2}; Big b{1, 2, 3, "hello"}; Cart c; c.owner = "me";
  byref(x, p); byval(p, b, 9); line({{1,2},{3,4}}, 5); mix({1.5, 2}, 2.5, 3.5f, 4); flag(true, Colour::blue, B, 'q');
  bits({1, 2, -3}, U{7}); str("short", "a much longer string that is on the heap"); vec({1, 2, 3}, {"a", "b"});
  cb(atoi2); ret(4); big(5); many(1, 2, 3, 4, 5, 6, 7, "eight"); sv("view"); up(std::make_unique<Point>(p), std::make_shared<Point>(p));
  char a[8] = "abc"; arr(a, argv); rv(std::string("moved")); over(1); over("one"); tw(5); tw(2.5); sfun(3); c.add(2, "book"); c.name();
  return argc - 1;
}
