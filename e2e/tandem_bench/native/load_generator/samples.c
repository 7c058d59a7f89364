#include <stdlib.h>

#include "../common/memory.h"
#include "load.h"

#define NS_PER_UNIT 100
#define UNITS_PER_US 10.0

void samples_add(struct samples *samples, uint64_t ns) {
    if (samples->count == samples->room) {
        samples->room = samples->room ? 2 * samples->room : 65536;
        samples->values = regrow(samples->values, samples->room, sizeof *samples->values);
    }
    uint64_t units = ns / NS_PER_UNIT;
    samples->values[samples->count++] = units > UINT32_MAX ? UINT32_MAX : (uint32_t)units;
}

static int compare(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

void samples_sort(struct samples *samples) {
    if (samples->count) qsort(samples->values, samples->count, sizeof *samples->values, compare);
}

double samples_percentile(const struct samples *samples, double share) {
    if (!samples->count) return -1;
    size_t nearest = (size_t)(share * (double)(samples->count - 1) + 0.5);
    return samples->values[nearest] / UNITS_PER_US;
}

double samples_mean(const struct samples *samples) {
    double sum = 0;
    for (size_t i = 0; i < samples->count; i++) sum += samples->values[i];
    return samples->count ? sum / (double)samples->count / UNITS_PER_US : -1;
}
