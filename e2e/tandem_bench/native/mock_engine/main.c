// mock_engine PORT:ROLE ... [itl_us=20000] [ttft_us=0] [prefill_us=0] [steps=0]
// Roles: regular, prefill, decode. GET /mock/config?itl_us=... changes settings, GET /mock/stats gives counters.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "../common/memory.h"
#include "engine.h"

#define EVENTS 512

const char *const ROLE_NAMES[ROLES] = {"regular", "prefill", "decode"};

static enum role role_named(const char *name) {
    for (int role = 0; role < ROLES; role++)
        if (!strcmp(name, ROLE_NAMES[role])) return role;
    fprintf(stderr, "unknown role %s: regular, prefill or decode\n", name);
    exit(2);
}

static void raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) die("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit)) die("setrlimit");
}

static void read_arguments(struct engine *engine, int count, char **arguments) {
    for (int i = 1; i < count; i++) {
        char *colon = strchr(arguments[i], ':');
        if (colon)
            listen_on(engine, atoi(arguments[i]), role_named(colon + 1));
        else
            set_from(&engine->settings, arguments[i]);
    }
}

// Until the next token is due; for ever if none is.
static int wait_for_events(struct engine *engine, struct epoll_event *events) {
    struct connection *first = timers_first(&engine->timers);
    if (!first) return epoll_wait(engine->epoll, events, EVENTS, -1);
    uint64_t now = now_ns(), due = first->generation.due, left = due > now ? due - now : 0;
    struct timespec timeout = {.tv_sec = (time_t)(left / NS_PER_S), .tv_nsec = (long)(left % NS_PER_S)};
    return epoll_pwait2(engine->epoll, events, EVENTS, &timeout, NULL);
}

static void handle(struct engine *engine, const struct epoll_event *event) {
    struct connection *c = event->data.ptr;
    if (c->listens) {
        accept_all(engine, c);
        return;
    }
    if (!c->closed && event->events & EPOLLOUT) connection_writable(engine, c);
    if (!c->closed && event->events & ~(uint32_t)EPOLLOUT) connection_readable(engine, c);
}

static void fire_due(struct engine *engine) {
    uint64_t now = now_ns();
    for (struct connection *c; (c = timers_first(&engine->timers)) && c->generation.due <= now;) {
        timers_remove(&engine->timers, c);
        generation_go_on(engine, c);
        if (!c->closed && !c->generation.active) connection_next(engine, c);
    }
}

int main(int count, char **arguments) {
    struct engine engine = {.epoll = epoll_create1(0)};
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    read_arguments(&engine, count, arguments);
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = wait_for_events(&engine, events);
        for (int i = 0; i < ready; i++) handle(&engine, &events[i]);
        fire_due(&engine);
        bury(&engine);
    }
}
