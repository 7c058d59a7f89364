// From a request to its tokens: what was asked, when each token is due, and how vLLM writes it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

#define SLOW_READER_BYTES 65536  // so much unsent output parks a stream
#define DEFAULT_TOKENS 16
#define PROMPT_TOKENS 32

bool is_generation(const char *path) {
    return !strncmp(path, "/v1/chat/completions", 20) || !strncmp(path, "/v1/completions", 15) ||
           !strncmp(path, "/generate", 9);
}

// The text of a member's value, by its quoted name; NULL if the body has none. Not a parser: bodies come from routers
// that this benchmark starts, and prompts that it wrote.
static const char *member(const struct buffer *body, const char *name) {
    const char *begin = buffer_bytes(body), *end = begin + body->size;
    const char *found = body->size ? memmem(begin, body->size, name, strlen(name)) : NULL;
    if (!found) return NULL;
    found += strlen(name);
    while (found < end && (*found == ' ' || *found == ':')) found++;
    return found < end ? found : NULL;
}

static bool is_true(const struct buffer *body, const char *name) {
    const char *value = member(body, name);
    return value && *value == 't';
}

static int number(const struct buffer *body, const char *name, int otherwise) {
    const char *value = member(body, name);
    return value && *value >= '0' && *value <= '9' ? atoi(value) : otherwise;
}

static int tokens_asked(const struct connection *c) {
    if (c->role == PREFILL) return 1;
    int tokens = number(&c->body, "\"max_completion_tokens\"", number(&c->body, "\"max_tokens\"", DEFAULT_TOKENS));
    return tokens > 0 ? tokens : 1;
}

static uint64_t aligned(const struct settings *settings, uint64_t due) {
    if (!settings->steps || !settings->itl) return due;
    return (due + settings->itl - 1) / settings->itl * settings->itl;
}

static void schedule(struct engine *engine, struct connection *c, uint64_t due) {
    c->generation.due = due;
    timers_add(&engine->timers, c);
}

static const char *kv_params(uint64_t number, char *text, size_t size) {
    snprintf(text, size,
             "{\"do_remote_prefill\":true,\"do_remote_decode\":false,\"remote_block_ids\":[[1,2]],"
             "\"remote_engine_id\":\"11111111-2222-3333-4444-555555555555\",\"remote_request_id\":\"cmpl-mock-%lu\","
             "\"remote_host\":\"127.0.0.1\",\"remote_port\":5600,\"tp_size\":1,\"remote_num_tokens\":%d,"
             "\"remote_blocks_expiry_time\":null,\"transfer_mode\":\"pull\"}",
             number, PROMPT_TOKENS);
    return text;
}

static void append_usage(struct buffer *b, int tokens) {
    buffer_printf(b, "\"usage\":{\"prompt_tokens\":%d,\"total_tokens\":%d,\"completion_tokens\":%d}", PROMPT_TOKENS,
                  PROMPT_TOKENS + tokens, tokens);
}

static void send_answer(struct engine *engine, struct connection *c) {
    struct generation *g = &c->generation;
    struct buffer body = {0};
    buffer_printf(&body,
                  "{\"id\":\"%s-0123456789abcdef0123456789abcdef\",\"object\":\"%s\",\"created\":1800000000,"
                  "\"model\":\"mock\",\"choices\":[{\"index\":0,%s @@%016lx",
                  g->chat ? "chatcmpl" : "cmpl", g->chat ? "chat.completion" : "text_completion",
                  g->chat ? "\"message\":{\"role\":\"assistant\",\"content\":\"" : "\"text\":\"", now_ns());
    for (int i = 1; i < g->tokens; i++) buffer_append(&body, " token", 6);
    buffer_printf(&body, "\"%s,\"logprobs\":null,\"finish_reason\":\"length\",\"stop_reason\":null}],",
                  g->chat ? "}" : "");
    append_usage(&body, g->tokens);
    char kv[512] = "null";
    if (g->keeps_kv) kv_params(engine->counters[c->role].requests, kv, sizeof kv);
    buffer_printf(&body, ",\"kv_transfer_params\":%s}", kv);
    g->active = false;
    connection_respond(engine, c, "200 OK", &body);
    buffer_free(&body);
}

static void append_event(struct buffer *out, const struct buffer *event) {
    buffer_printf(out, "%zx\r\n", event->size);
    buffer_append(out, buffer_bytes(event), event->size);
    buffer_append(out, "\r\n", 2);
}

static void append_begin(struct buffer *event, const struct generation *g) {
    buffer_printf(event,
                  "data: {\"id\":\"%s-0123456789abcdef0123456789abcdef\",\"object\":\"%s\",\"created\":1800000000,"
                  "\"model\":\"mock\",\"choices\":[",
                  g->chat ? "chatcmpl" : "cmpl", g->chat ? "chat.completion.chunk" : "text_completion");
}

static void append_token(struct buffer *out, const struct generation *g) {
    struct buffer event = {0};
    const char *finish = g->left == 1 ? "\"length\"" : "null";
    append_begin(&event, g);
    if (g->chat)
        buffer_printf(&event, "{\"index\":0,\"delta\":{%s\"content\":\" @@%016lx\"},\"logprobs\":null,",
                      g->left == g->tokens ? "\"role\":\"assistant\"," : "", now_ns());
    else
        buffer_printf(&event, "{\"index\":0,\"text\":\" @@%016lx\",\"logprobs\":null,", now_ns());
    buffer_printf(&event, "\"finish_reason\":%s,\"stop_reason\":null}]}\n\n", finish);
    append_event(out, &event);
    buffer_free(&event);
}

static void append_end(struct buffer *out, const struct generation *g) {
    if (g->usage) {
        struct buffer event = {0};
        append_begin(&event, g);
        buffer_printf(&event, "],");
        append_usage(&event, g->tokens);
        buffer_printf(&event, "}\n\n");
        append_event(out, &event);
        buffer_free(&event);
    }
    buffer_printf(out, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
}

static void send_token(struct engine *engine, struct connection *c) {
    struct generation *g = &c->generation;
    struct buffer out = {0};
    append_token(&out, g);
    engine->counters[c->role].chunks++;
    if (!--g->left) {
        append_end(&out, g);
        g->active = false;
    }
    connection_send(engine, c, buffer_bytes(&out), out.size);
    buffer_free(&out);
}

void generation_go_on(struct engine *engine, struct connection *c) {
    struct generation *g = &c->generation;
    g->parked = c->out.size > SLOW_READER_BYTES;
    if (g->parked) return;
    if (!g->stream) {
        send_answer(engine, c);
        return;
    }
    send_token(engine, c);
    if (c->closed || !g->active) return;
    uint64_t now = now_ns(), next = g->due + engine->settings.itl;
    // A stream that was parked does not catch up: its next token is due one interval from now.
    schedule(engine, c, aligned(&engine->settings, next > now ? next : now));
}

static void send_stream_head(struct engine *engine, struct connection *c) {
    static const char HEAD[] =
        "HTTP/1.1 200 OK\r\ndate: Sat, 01 Jan 2028 00:00:00 GMT\r\nserver: uvicorn\r\n"
        "content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
    connection_send(engine, c, HEAD, sizeof HEAD - 1);
}

void generation_start(struct engine *engine, struct connection *c) {
    struct counters *counters = &engine->counters[c->role];
    int tokens = tokens_asked(c);
    c->generation = (struct generation){
        .active = true,
        .stream = is_true(&c->body, "\"stream\""),
        .chat = strstr(c->head.path, "chat") != NULL,
        .usage = is_true(&c->body, "\"include_usage\""),
        .keeps_kv = is_true(&c->body, "\"do_remote_decode\""),
        .tokens = tokens,
        .left = tokens,
    };
    struct generation *g = &c->generation;
    counters->requests++;
    counters->streams += g->stream;
    counters->handovers += is_true(&c->body, "\"do_remote_prefill\"") || member(&c->body, "\"bootstrap_room\"");
    if (g->stream) send_stream_head(engine, c);
    if (c->closed) return;

    uint64_t wait = c->role == PREFILL ? engine->settings.prefill : engine->settings.ttft;
    if (!g->stream) wait += engine->settings.itl * (uint64_t)(tokens - 1);
    g->due = now_ns() + wait;
    bool in_steps = g->stream && engine->settings.steps && engine->settings.itl;
    if (wait || in_steps)
        schedule(engine, c, in_steps ? aligned(&engine->settings, g->due) : g->due);
    else
        generation_go_on(engine, c);
}
