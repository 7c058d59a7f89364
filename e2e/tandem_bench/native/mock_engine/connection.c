// Sockets: accept, read requests, write answers, notice that the other side has left.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../common/memory.h"
#include "engine.h"

#define READ_SIZE 65536
#define BACKLOG 8192

static void watch(struct engine *engine, struct connection *c, int operation) {
    uint32_t events = EPOLLIN | (c->listens ? 0 : EPOLLRDHUP) | (c->waits_for_room ? EPOLLOUT : 0);
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(engine->epoll, operation, c->socket, &event)) die("epoll_ctl");
}

static void wait_for_room(struct engine *engine, struct connection *c, bool wait) {
    if (c->waits_for_room == wait) return;
    c->waits_for_room = wait;
    watch(engine, c, EPOLL_CTL_MOD);
}

void listen_on(struct engine *engine, int port, enum role role) {
    struct connection *c = make(1, sizeof *c);
    *c = (struct connection){.listens = true, .port = port, .role = role};
    c->socket = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int on = 1;
    setsockopt(c->socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(c->socket, (struct sockaddr *)&address, sizeof address)) die("bind");
    if (listen(c->socket, BACKLOG)) die("listen");
    watch(engine, c, EPOLL_CTL_ADD);
}

void accept_all(struct engine *engine, struct connection *listener) {
    int accepted;
    while ((accepted = accept4(listener->socket, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        int on = 1;
        setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *c = make(1, sizeof *c);
        *c = (struct connection){.socket = accepted, .port = listener->port, .role = listener->role};
        engine->counters[c->role].accepted++;
        engine->counters[c->role].open++;
        watch(engine, c, EPOLL_CTL_ADD);
    }
}

static void shut(struct engine *engine, struct connection *c) {
    if (c->closed) return;
    c->closed = true;
    if (c->generation.active) engine->counters[c->role].aborts++;
    engine->counters[c->role].open--;
    timers_remove(&engine->timers, c);
    close(c->socket);
    c->grave = engine->graves;
    engine->graves = c;
}

void bury(struct engine *engine) {
    while (engine->graves) {
        struct connection *c = engine->graves;
        engine->graves = c->grave;
        buffer_free(&c->in);
        buffer_free(&c->body);
        buffer_free(&c->out);
        free(c);
    }
}

void connection_send(struct engine *engine, struct connection *c, const void *bytes, size_t size) {
    if (c->closed) return;
    bool was_empty = !c->out.size;
    buffer_append(&c->out, bytes, size);
    if (was_empty) connection_writable(engine, c);
}

void connection_writable(struct engine *engine, struct connection *c) {
    if (buffer_send(&c->out, c->socket) < 0) {
        shut(engine, c);
        return;
    }
    wait_for_room(engine, c, c->out.size > 0);
    if (!c->out.size && c->generation.parked) generation_go_on(engine, c);
}

void connection_respond(struct engine *engine, struct connection *c, const char *status, const struct buffer *body) {
    struct buffer answer = {0};
    buffer_printf(&answer,
                  "HTTP/1.1 %s\r\ndate: Sat, 01 Jan 2028 00:00:00 GMT\r\nserver: uvicorn\r\n"
                  "content-length: %zu\r\ncontent-type: application/json\r\n\r\n",
                  status, body->size);
    if (body->size) buffer_append(&answer, buffer_bytes(body), body->size);
    connection_send(engine, c, buffer_bytes(&answer), answer.size);
    buffer_free(&answer);
}

static void keep(void *context, const char *bytes, size_t size) {
    buffer_append(context, bytes, size);
}

static bool read_head(struct engine *engine, struct connection *c) {
    enum http_result result = http_parse_head(buffer_bytes(&c->in), c->in.size, &c->head);
    if (result == HTTP_BROKEN) shut(engine, c);
    if (result != HTTP_COMPLETE) return false;
    buffer_take(&c->in, c->head.size);
    buffer_take(&c->body, c->body.size);
    c->reading = http_body_of(&c->head);
    c->reads_body = true;
    static const char CONTINUE[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (c->head.expects_continue) connection_send(engine, c, CONTINUE, sizeof CONTINUE - 1);
    return true;
}

static bool read_body(struct engine *engine, struct connection *c) {
    if (c->in.size) buffer_take(&c->in, http_body_feed(&c->reading, buffer_bytes(&c->in), c->in.size, keep, &c->body));
    if (c->reading.state == BODY_BROKEN) shut(engine, c);
    if (c->reading.state != BODY_DONE) return false;
    c->reads_body = false;
    return true;
}

void connection_next(struct engine *engine, struct connection *c) {
    while (!c->closed && !c->generation.active && (c->in.size || c->reads_body)) {
        if (!c->reads_body && !read_head(engine, c)) return;
        if (!read_body(engine, c)) return;
        if (is_generation(c->head.path) && !strcmp(c->head.method, "POST"))
            generation_start(engine, c);
        else
            answer_page(engine, c);
    }
}

void connection_readable(struct engine *engine, struct connection *c) {
    ssize_t got;
    do {
        got = buffer_receive(&c->in, c->socket, READ_SIZE);
        if (got < 0) {
            shut(engine, c);
            return;
        }
    } while (got == READ_SIZE);
    connection_next(engine, c);
}
