// A closed-loop load generator for OpenAI-style servers, single-threaded over epoll: each client asks again when its
// answer is complete. See main.c for the options.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../common/buffer.h"
#include "../common/clock.h"
#include "../common/http.h"

enum mode {
    NONSTREAM,  // whole answers, again and again
    STREAM,     // streams, again and again
    IDLE,       // one stream each; when all have their first token, stay for `seconds`, then leave
    LEAVE,      // one stream each; wait `seconds` for nothing, then leave
    SLOW,       // one stream each; read up to the first token only, stay for `seconds`, then leave
};

#define PIDS 64

struct options {
    enum mode mode;
    int port, clients, tokens;
    long prompt;  // bytes
    double seconds, warm_up, stagger;
    const char *path, *model;
    int pids[PIDS], pid_count;  // whose CPU time and memory to report
};

// Durations in units of 0.1 us, which hold 7 minutes in 32 bits.
struct samples {
    uint32_t *values;
    size_t count, room;
};

struct measured {
    bool on;  // nothing is counted before the warm-up is over
    uint64_t begin, end;
    uint64_t requests, events, reads, errors, refused, short_streams;
    struct samples latency, first, gap, transit;
};

struct usage {
    double cpu_ms, rss_kb, own_cpu_ms;
};

struct client {
    int socket;  // -1: not connected
    enum { RESTING, READS_HEAD, READS_BODY } state;
    struct buffer in, out, line;
    struct http_head head;
    struct http_body body;
    uint64_t asked, first, last, now;  // of the request under way; `now` is when the bytes at hand came
    int events;
    bool counted_first, deaf;  // deaf: reads no more
};

struct load {
    struct options options;
    struct measured measured;
    struct client *clients;
    char *filler;  // the prompt, but for its unique beginning
    int epoll, started, lost, with_first;
    uint64_t asked;
};

// options.c
struct options read_options(int count, char **arguments);

// client.c
void client_start(struct load *load, struct client *c);
void client_event(struct load *load, struct client *c);

// answer.c
enum http_result read_answer(struct load *load, struct client *c);  // from c->in

// samples.c
void samples_add(struct samples *samples, uint64_t ns);
void samples_sort(struct samples *samples);
double samples_percentile(const struct samples *samples, double share);  // us; -1 without samples
double samples_mean(const struct samples *samples);

// processes.c
struct usage usage_now(const struct options *options);

// report.c
void report(struct load *load, const struct usage *before, const struct usage *after, double rss_at_start);
