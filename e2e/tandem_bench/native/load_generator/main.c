// load_generator port=P mode=... : asks a server on this host, and prints what it saw as one line of JSON.
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "../common/memory.h"
#include "load.h"

#define EVENTS 512
#define BURST 64            // clients started between two looks at the sockets
#define PATIENCE_SECONDS 60  // for the first tokens of clients that stay
#define TICK_MS 2

static char *filler(long size) {
    static const char TEXT[] = "the quick brown fox jumps over a lazy dog and then runs far away from here ";
    char *text = make((size_t)size + 1, 1);
    for (long i = 0; i < size; i++) text[i] = TEXT[i % (long)(sizeof TEXT - 1)];
    return text;
}

static void raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) die("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit)) die("setrlimit");
}

static uint64_t after(uint64_t begin, double seconds) {
    return begin + (uint64_t)(seconds * (double)NS_PER_S);
}

// Starts the clients whose turn has come, evenly over `stagger`. Whether more are due already.
static bool start_due(struct load *load, uint64_t begin) {
    const struct options *o = &load->options;
    for (int burst = 0; load->started < o->clients; burst++) {
        if (after(begin, o->stagger * load->started / o->clients) > now_ns()) return false;
        if (burst == BURST) return true;
        client_start(load, &load->clients[load->started++]);
    }
    return false;
}

static bool warmed_up(const struct load *load, uint64_t begin) {
    const struct options *o = &load->options;
    uint64_t now = now_ns();
    if (load->started < o->clients) return false;
    if (o->mode == IDLE || o->mode == SLOW)
        return load->with_first >= o->clients || now >= after(begin, PATIENCE_SECONDS);
    return now >= after(begin, o->warm_up);
}

static void serve_sockets(struct load *load, bool in_a_hurry) {
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(load->epoll, events, EVENTS, in_a_hurry ? 0 : TICK_MS);
    for (int i = 0; i < ready; i++) client_event(load, events[i].data.ptr);
}

int main(int count, char **arguments) {
    struct load load = {.options = read_options(count, arguments), .epoll = epoll_create1(0)};
    struct options *o = &load.options;
    raise_file_limit();
    load.filler = filler(o->prompt);
    load.clients = make((size_t)o->clients, sizeof *load.clients);
    for (int i = 0; i < o->clients; i++) load.clients[i].socket = -1;

    struct usage at_start = usage_now(o), before = at_start;
    struct measured *m = &load.measured;
    uint64_t begin = now_ns();
    while (!m->on || now_ns() < after(m->begin, o->seconds)) {
        bool more = start_due(&load, begin);
        if (!m->on && warmed_up(&load, begin)) {
            m->on = true;
            m->begin = now_ns();
            before = usage_now(o);
        }
        if (load.lost == o->clients) break;
        serve_sockets(&load, more);
    }
    m->end = now_ns();
    struct usage at_end = usage_now(o);
    report(&load, &before, &at_end, at_start.rss_kb);
    return 0;
}
