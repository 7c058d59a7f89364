// Allocation that ends the program when there is no memory: a benchmark cannot go on without it.
#pragma once
#include <stddef.h>

void *make(size_t count, size_t size);  // zeroed
void *regrow(void *old, size_t count, size_t size);
void die(const char *what) __attribute__((noreturn));  // with errno's reason
