/* A service that never exits: one request for each line that it reads. Five of its functions lose or hoard memory. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define APART __attribute__((noinline, noclone))

/* All sizes are such as glibc does not round up. */
struct request { char *name; char rest[80]; };
struct table { char rest[504]; };
struct configuration { struct table *table; char rest[48]; };
struct session { struct session *other; char rest[112]; };
struct seen { struct seen *next; char rest[144]; };

static struct configuration *configuration;
static struct seen *all_seen;

static APART void *zeros(size_t size) { return calloc(1, size); }

/* The line is copied, and nobody frees the copy. */
static APART void log_line(void) { strcpy(zeros(40), "GET /index.html from a client"); }

/* The request is freed, its name is not. */
static APART void parse_request(void)
{
	struct request *request = zeros(sizeof *request);
	request->name = zeros(72);
	request->name[0] = 1;
	free(request);
}

/* The old configuration is forgotten, and with it its table. */
static APART void reload_configuration(void)
{
	configuration = zeros(sizeof *configuration);
	configuration->table = zeros(sizeof *configuration->table);
}

/* Two that lead to each other: each has a pointer to it, and nobody has one to them. */
static APART void open_session(void)
{
	struct session *client = zeros(sizeof *client), *server = zeros(sizeof *server);
	client->other = server;
	server->other = client;
}

/* Not lost, but never removed. */
static APART void remember(void)
{
	struct seen *seen = zeros(sizeof *seen);
	seen->next = all_seen;
	all_seen = seen;
}

/* Overwrite what functions that have returned left on the stack. */
static APART void scrub(void)
{
	volatile char room[16384];
	for (size_t at = 0; at < sizeof room; at++)
		room[at] = 0;
}

int main(void)
{
	char byte;
	while (read(0, &byte, 1) == 1) {
		log_line();
		parse_request();
		reload_configuration();
		open_session();
		remember();
		scrub();
		if (write(1, "\n", 1) != 1)
			return 1;
	}
	return 0;
}
