// CPU time (all threads, to the nanosecond) and resident memory of the processes under test.
#include <stdio.h>
#include <unistd.h>

#include "load.h"

static double cpu_ms(int pid) {
    clockid_t clock;
    return clock_getcpuclockid(pid, &clock) ? 0 : (double)clock_ns(clock) / NS_PER_MS;
}

static double rss_kb(int pid) {
    char path[64];
    long total, resident = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (fscanf(file, "%ld %ld", &total, &resident) != 2) resident = 0;
    fclose(file);
    return (double)(resident * (sysconf(_SC_PAGESIZE) / 1024));
}

struct usage usage_now(const struct options *options) {
    struct usage usage = {.own_cpu_ms = (double)clock_ns(CLOCK_PROCESS_CPUTIME_ID) / NS_PER_MS};
    for (int i = 0; i < options->pid_count; i++) {
        usage.cpu_ms += cpu_ms(options->pids[i]);
        usage.rss_kb += rss_kb(options->pids[i]);
    }
    return usage;
}
