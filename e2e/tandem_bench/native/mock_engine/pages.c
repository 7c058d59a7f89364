// What routers ask an engine besides tokens, and what the benchmark asks the mock: counters and settings.
#include <stdlib.h>
#include <string.h>

#include "engine.h"

static uint64_t micros(const char *text, const char *name, uint64_t otherwise) {
    const char *found = strstr(text, name);
    return found ? strtoull(found + strlen(name), NULL, 10) * NS_PER_US : otherwise;
}

void set_from(struct settings *settings, const char *text) {
    settings->itl = micros(text, "itl_us=", settings->itl);
    settings->ttft = micros(text, "ttft_us=", settings->ttft);
    settings->prefill = micros(text, "prefill_us=", settings->prefill);
    const char *steps = strstr(text, "steps=");
    if (steps) settings->steps = atoi(steps + 6);
}

static void stats(struct engine *engine, struct buffer *body) {
    const char *separator = "{";
    for (int role = 0; role < ROLES; role++) {
        const struct counters *n = &engine->counters[role];
        buffer_printf(body,
                      "%s\"%s\":{\"requests\":%lu,\"streams\":%lu,\"chunks\":%lu,\"handovers\":%lu,\"aborts\":%lu,"
                      "\"accepted\":%lu,\"open\":%ld}",
                      separator, ROLE_NAMES[role], n->requests, n->streams, n->chunks, n->handovers, n->aborts,
                      n->accepted, n->open);
        separator = ",";
    }
    buffer_printf(body, "}");
}

static void config(struct engine *engine, const char *query, struct buffer *body) {
    set_from(&engine->settings, query);
    const struct settings *s = &engine->settings;
    buffer_printf(body, "{\"itl_us\":%lu,\"ttft_us\":%lu,\"prefill_us\":%lu,\"steps\":%d}", s->itl / NS_PER_US,
                  s->ttft / NS_PER_US, s->prefill / NS_PER_US, s->steps);
}

static const char *const DISAGGREGATION[ROLES] = {"null", "prefill", "decode"};

static void sglang_info(enum role role, struct buffer *body) {
    buffer_printf(body,
                  "{\"model_path\":\"mock\",\"tokenizer_path\":\"mock\",\"served_model_name\":\"mock\","
                  "\"is_generation\":true,\"model_type\":\"llama\",\"tp_size\":1,\"dp_size\":1,"
                  "\"max_total_num_tokens\":1000000,\"max_num_reqs\":1024,\"disaggregation_mode\":\"%s\","
                  "\"version\":\"0.5.23\",\"internal_states\":[{}]}",
                  DISAGGREGATION[role]);
}

static const char MODELS[] =
    "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\",\"created\":1800000000,"
    "\"owned_by\":\"vllm\",\"root\":\"mock\",\"parent\":null,\"max_model_len\":1048576}]}";

static const char METRICS[] =
    "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{model_name=\"mock\",engine=\"0\"} %zu.0\n"
    "# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{model_name=\"mock\",engine=\"0\"} 0.0\n"
    "# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc{model_name=\"mock\",engine=\"0\"} 0.1\n";

static bool starts(const char *text, const char *with) {
    return !strncmp(text, with, strlen(with));
}

static bool write_page(struct engine *engine, const struct connection *c, struct buffer *body) {
    const char *path = c->head.path;
    if (starts(path, "/mock/config"))
        config(engine, path, body);
    else if (starts(path, "/mock/stats"))
        stats(engine, body);
    else if (starts(path, "/v1/models") || starts(path, "/models"))
        buffer_append(body, MODELS, sizeof MODELS - 1);
    else if (starts(path, "/metrics"))
        buffer_printf(body, METRICS, engine->timers.count);
    else if (starts(path, "/version"))
        buffer_printf(body, "{\"version\":\"0.33.0\"}");
    else if (strstr(path, "server_info") || strstr(path, "model_info"))
        sglang_info(c->role, body);
    else if (starts(path, "/get_load") || starts(path, "/v1/loads"))
        buffer_printf(body, "[{\"dp_rank\":0,\"num_reqs\":%zu,\"num_waiting_reqs\":0,\"num_tokens\":0}]",
                      engine->timers.count);
    else
        return starts(path, "/health") || starts(path, "/ping") || starts(path, "/flush_cache") || !strcmp(path, "/");
    return true;
}

void answer_page(struct engine *engine, struct connection *c) {
    struct buffer body = {0};
    bool known = write_page(engine, c, &body);
    if (!known) buffer_printf(&body, "{\"detail\":\"Not Found\"}");
    connection_respond(engine, c, known ? "200 OK" : "404 Not Found", &body);
    buffer_free(&body);
}
