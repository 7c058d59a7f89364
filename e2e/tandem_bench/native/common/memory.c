#include "memory.h"

#include <stdio.h>
#include <stdlib.h>

void die(const char *what) {
    perror(what);
    exit(1);
}

void *make(size_t count, size_t size) {
    void *made = calloc(count, size);
    if (!made) die("calloc");
    return made;
}

void *regrow(void *old, size_t count, size_t size) {
    void *grown = reallocarray(old, count, size);
    if (!grown) die("realloc");
    return grown;
}
