// One client: connects, asks, reads, asks again.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../common/memory.h"
#include "load.h"

#define READ_SIZE 65536
#define SMALL_WINDOW 16384  // a slow reader's kernel should not read for it

static void disconnect(struct client *c) {
    close(c->socket);
    c->socket = -1;
    c->state = RESTING;
    buffer_take(&c->in, c->in.size);
    buffer_take(&c->out, c->out.size);
}

static bool dial(struct load *load, struct client *c) {
    c->socket = socket(AF_INET, SOCK_STREAM, 0);
    if (c->socket < 0) die("socket");
    int on = 1, window = SMALL_WINDOW;
    setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (load->options.mode == SLOW) setsockopt(c->socket, SOL_SOCKET, SO_RCVBUF, &window, sizeof window);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)load->options.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(c->socket, (struct sockaddr *)&address, sizeof address)) {
        load->measured.errors++;
        load->lost++;
        disconnect(c);
        return false;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, c->socket, &event)) die("epoll_ctl");
    return true;
}

// Each prompt begins with eight digits of its own, so that no router's prefix cache finds it.
static void write_request(struct load *load, struct client *c) {
    const struct options *o = &load->options;
    bool chat = strstr(o->path, "chat") != NULL;
    struct buffer front = {0}, back = {0};
    buffer_printf(&front, "{\"model\":\"%s\",%s%08x ", o->model,
                  chat ? "\"messages\":[{\"role\":\"user\",\"content\":\"" : "\"prompt\":\"",
                  (uint32_t)(++load->asked * 2654435761u));
    buffer_printf(&back, "\"%s,\"max_tokens\":%d,\"stream\":%s}", chat ? "}]" : "", o->tokens,
                  o->mode == NONSTREAM ? "false" : "true");
    buffer_printf(&c->out,
                  "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nAccept: */*\r\n"
                  "Content-Length: %zu\r\n\r\n",
                  o->path, o->port, front.size + (size_t)o->prompt + back.size);
    buffer_append(&c->out, buffer_bytes(&front), front.size);
    buffer_append(&c->out, load->filler, (size_t)o->prompt);
    buffer_append(&c->out, buffer_bytes(&back), back.size);
    buffer_free(&front);
    buffer_free(&back);
}

static void flush(struct load *load, struct client *c) {
    while (c->out.size) {
        ssize_t sent = buffer_send(&c->out, c->socket);
        if (sent < 0) {
            load->measured.errors++;
            disconnect(c);
        }
        if (sent <= 0) return;
    }
}

void client_start(struct load *load, struct client *c) {
    if (c->socket < 0 && !dial(load, c)) return;
    c->state = READS_HEAD;
    c->events = 0;
    c->first = c->last = 0;
    write_request(load, c);
    c->asked = now_ns();
    flush(load, c);
}

static void finish(struct load *load, struct client *c) {
    struct measured *m = &load->measured;
    const struct options *o = &load->options;
    c->state = RESTING;
    if (!m->on) return;
    if (c->head.status != 200) {
        m->refused++;
        return;
    }
    m->requests++;
    samples_add(&m->latency, c->now - c->asked);
    if (o->mode == STREAM && c->events < o->tokens) m->short_streams++;
}

static bool again(const struct load *load) {
    return load->options.mode <= STREAM;
}

static void left_by_server(struct load *load, struct client *c) {
    bool in_the_middle = c->state != RESTING;
    if (in_the_middle) load->measured.errors++;
    disconnect(c);
    if (again(load)) client_start(load, c);
}

static void note_first(struct load *load, struct client *c) {
    if (c->counted_first || !c->first) return;
    c->counted_first = true;
    load->with_first++;
    c->deaf = load->options.mode == SLOW;
}

static void read_all(struct load *load, struct client *c) {
    for (ssize_t got = READ_SIZE; got == READ_SIZE && !c->deaf;) {
        got = buffer_receive(&c->in, c->socket, READ_SIZE);
        if (got < 0) left_by_server(load, c);
        if (got <= 0) return;
        c->now = now_ns();
        if (load->measured.on) load->measured.reads++;
        enum http_result result = c->state == RESTING ? HTTP_BROKEN : read_answer(load, c);
        note_first(load, c);
        if (result == HTTP_BROKEN) {
            left_by_server(load, c);
            return;
        }
        if (result == HTTP_COMPLETE) {
            finish(load, c);
            if (again(load)) client_start(load, c);
            if (c->socket < 0) return;
        }
    }
}

void client_event(struct load *load, struct client *c) {
    if (c->socket >= 0) flush(load, c);
    if (c->socket >= 0) read_all(load, c);
}
