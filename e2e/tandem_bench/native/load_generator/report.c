// The result, as one line of JSON. Durations in us, CPU in ms, memory in KB.
#include <stdio.h>

#include "load.h"

static void print_samples(const char *name, struct samples *samples) {
    samples_sort(samples);
    printf("\"%s\":{\"count\":%zu,\"mean\":%.1f,\"p50\":%.1f,\"p99\":%.1f},", name, samples->count,
           samples_mean(samples), samples_percentile(samples, 0.5), samples_percentile(samples, 0.99));
}

void report(struct load *load, const struct usage *before, const struct usage *after, double rss_at_start) {
    struct measured *m = &load->measured;
    double seconds = (double)(m->end - m->begin) / NS_PER_S, cpu = after->cpu_ms - before->cpu_ms;
    printf("{\"seconds\":%.3f,\"requests\":%lu,\"requests_per_s\":%.1f,\"events\":%lu,\"events_per_read\":%.3f,",
           seconds, m->requests, (double)m->requests / seconds, m->events,
           m->reads ? (double)m->events / (double)m->reads : 0);
    printf("\"errors\":%lu,\"refused\":%lu,\"short_streams\":%lu,\"with_first\":%d,", m->errors, m->refused,
           m->short_streams, load->with_first);
    print_samples("latency", &m->latency);
    print_samples("first", &m->first);
    print_samples("gap", &m->gap);
    print_samples("transit", &m->transit);
    printf("\"cpu\":%.1f,\"cores\":%.4f,\"generator_cores\":%.4f,\"rss_before\":%.0f,\"rss_after\":%.0f}\n", cpu,
           cpu / 1e3 / seconds, (after->own_cpu_ms - before->own_cpu_ms) / 1e3 / seconds, rss_at_start,
           after->rss_kb);
}
