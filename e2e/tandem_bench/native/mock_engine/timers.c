// A binary heap of connections by the time at which their next token is due.
#include "../common/memory.h"
#include "engine.h"

static void put(struct timers *timers, size_t place, struct connection *c) {
    timers->heap[place] = c;
    c->place = place;
}

static uint64_t due(const struct timers *timers, size_t place) {
    return timers->heap[place]->generation.due;
}

static void up(struct timers *timers, size_t place) {
    struct connection *c = timers->heap[place];
    for (; place > 1 && due(timers, place / 2) > c->generation.due; place /= 2)
        put(timers, place, timers->heap[place / 2]);
    put(timers, place, c);
}

static void down(struct timers *timers, size_t place) {
    struct connection *c = timers->heap[place];
    for (size_t child; (child = 2 * place) <= timers->count; place = child) {
        if (child < timers->count && due(timers, child + 1) < due(timers, child)) child++;
        if (due(timers, child) >= c->generation.due) break;
        put(timers, place, timers->heap[child]);
    }
    put(timers, place, c);
}

void timers_add(struct timers *timers, struct connection *c) {
    if (timers->count + 2 > timers->room) {
        timers->room = timers->room ? 2 * timers->room : 1024;
        timers->heap = regrow(timers->heap, timers->room, sizeof *timers->heap);
    }
    timers->heap[++timers->count] = c;
    up(timers, timers->count);
}

void timers_remove(struct timers *timers, struct connection *c) {
    size_t place = c->place;
    if (!place) return;
    c->place = 0;
    struct connection *last = timers->heap[timers->count--];
    if (last == c) return;
    put(timers, place, last);
    up(timers, place);
    down(timers, last->place);
}

struct connection *timers_first(const struct timers *timers) {
    return timers->count ? timers->heap[1] : NULL;
}
