#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

static const char USAGE[] =
    "load_generator port=P [mode=nonstream|stream|idle|leave|slow] [clients=1] [tokens=16] [prompt=256]\n"
    "               [seconds=5] [warm_up=1] [stagger=0] [path=/v1/chat/completions] [model=mock] [pids=1,2,3]\n"
    "Prints one line of JSON. Times in seconds, prompt in bytes; pids are the processes whose CPU and memory count.\n";

static void refuse(const char *argument) {
    fprintf(stderr, "unknown argument %s\n%s", argument, USAGE);
    exit(2);
}

static enum mode mode_named(const char *name) {
    static const char *const NAMES[] = {"nonstream", "stream", "idle", "leave", "slow"};
    for (int mode = NONSTREAM; mode <= SLOW; mode++)
        if (!strcmp(name, NAMES[mode])) return mode;
    refuse(name);
    return NONSTREAM;
}

static void read_pids(struct options *options, char *list) {
    for (char *pid = strtok(list, ","); pid && options->pid_count < PIDS; pid = strtok(NULL, ","))
        options->pids[options->pid_count++] = atoi(pid);
}

static void read_option(struct options *options, const char *name, char *value) {
    if (!strcmp(name, "port")) options->port = atoi(value);
    else if (!strcmp(name, "mode")) options->mode = mode_named(value);
    else if (!strcmp(name, "clients")) options->clients = atoi(value);
    else if (!strcmp(name, "tokens")) options->tokens = atoi(value);
    else if (!strcmp(name, "prompt")) options->prompt = atol(value);
    else if (!strcmp(name, "seconds")) options->seconds = atof(value);
    else if (!strcmp(name, "warm_up")) options->warm_up = atof(value);
    else if (!strcmp(name, "stagger")) options->stagger = atof(value);
    else if (!strcmp(name, "path")) options->path = value;
    else if (!strcmp(name, "model")) options->model = value;
    else if (!strcmp(name, "pids")) read_pids(options, value);
    else refuse(name);
}

struct options read_options(int count, char **arguments) {
    struct options options = {
        .clients = 1, .tokens = 16, .prompt = 256, .seconds = 5, .warm_up = 1,
        .path = "/v1/chat/completions", .model = "mock",
    };
    for (int i = 1; i < count; i++) {
        char *equals = strchr(arguments[i], '=');
        if (!equals) refuse(arguments[i]);
        *equals = 0;
        read_option(&options, arguments[i], equals + 1);
    }
    if (!options.port || options.clients < 1) refuse("(port and clients must be positive)");
    return options;
}
