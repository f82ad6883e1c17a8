/* Requests at a fixed rate, at random moments, whatever the server does.

   openloop PORT RATE SECONDS CONNECTIONS SEED < REQUEST

   A request that is due while all connections wait for answers waits in line, and its latency counts
   from when it was due: waiting in line is not hidden. The first second is not counted. One line of
   JSON: latencies in microseconds, `late_us` the 99th percentile of how late this program itself was
   where a connection was free (what it says of the server is worth no more than that is small). */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 1 << 18, MOST_EVENTS = 256, PATIENCE = 30 };

typedef struct {
    int fd, busy, gone;
    double due;          /* seconds; of the request under way */
    size_t sent, filled; /* bytes of the request that are sent, of the answer that have come */
    char *answer;
} Connection;

static char request[1 << 22];
static size_t length;
static int port, events;
static Connection *connections;
static int *freed, free_count;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t state;
static double uniform(void) { /* splitmix64 */
    uint64_t z = (state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1.0p-53;
}

static void connect_one(Connection *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0) fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(events, EPOLL_CTL_ADD, c->fd, &event) < 0) fail("epoll_ctl");
}

static void wait_for(Connection *c, uint32_t what) {
    struct epoll_event event = {.events = what, .data.ptr = c};
    epoll_ctl(events, EPOLL_CTL_MOD, c->fd, &event);
}

static int push(Connection *c) { /* 0 when the connection is broken */
    while (c->sent < length) {
        ssize_t n = send(c->fd, request + c->sent, length - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            wait_for(c, EPOLLIN | EPOLLOUT);
            return 1;
        }
        if (n < 0) return 0;
        c->sent += (size_t)n;
    }
    return 1;
}

/* The status of a whole answer, 0 while it is not whole, -1 for what is none; `*ends`: the server
   says that it ends the connection. */
static int status_of(Connection *c, int *ends) {
    c->answer[c->filled] = 0;
    char *end = strstr(c->answer, "\r\n\r\n");
    if (!end) return c->filled + 1 < ROOM ? 0 : -1;
    char *said = strcasestr(c->answer, "\r\ncontent-length:");
    if (!said || said > end) return -1;
    size_t whole = (size_t)(end - c->answer) + 4 + strtoul(said + 17, NULL, 10);
    if (whole + 1 > ROOM) return -1;
    if (c->filled < whole) return 0;
    char *closes = strcasestr(c->answer, "\r\nconnection: close");
    *ends = closes && closes < end;
    return c->filled > 12 ? atoi(c->answer + 9) : -1;
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double quantile(float *values, size_t count, double share) {
    if (!count) return 0;
    size_t place = (size_t)ceil(share * (double)count);
    return values[place ? place - 1 : 0];
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "openloop PORT RATE SECONDS CONNECTIONS SEED < REQUEST\n");
        return 2;
    }
    port = atoi(argv[1]);
    double rate = atof(argv[2]), seconds = atof(argv[3]);
    int count = atoi(argv[4]);
    state = strtoull(argv[5], NULL, 10);
    length = fread(request, 1, sizeof request, stdin);
    events = epoll_create1(0);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event tick = {.events = EPOLLIN, .data.ptr = NULL};
    if (events < 0 || timer < 0 || epoll_ctl(events, EPOLL_CTL_ADD, timer, &tick)) fail("epoll");

    size_t total = (size_t)(rate * (seconds + 1.0)), sent = 0, next = 0, counted = 0, lates = 0;
    size_t errors = 0, left = total;
    double *due = malloc((total + 1) * sizeof *due), at = 0;
    float *took = malloc((total + 1) * sizeof *took), *late = malloc((total + 1) * sizeof *late);
    connections = calloc((size_t)count, sizeof *connections);
    freed = malloc((size_t)count * sizeof *freed);
    for (size_t i = 0; i < total; i++) due[i] = at += -log(1.0 - uniform()) / rate;
    for (int i = 0; i < count; i++) {
        connections[i].answer = malloc(ROOM);
        connect_one(&connections[i]);
        freed[free_count++] = i;
    }

    struct epoll_event found[MOST_EVENTS];
    double begin = now() + 0.05;
    while (left && now() - begin < due[total - 1] + PATIENCE) {
        double t = now() - begin;
        while (next < total && due[next] <= t) next++; /* `sent`..`next` are in line */
        while (sent < next && free_count) {
            Connection *c = &connections[freed[--free_count]];
            int waited = c->gone; /* reused: whether it was the line that made it late */
            c->gone = 0;
            c->due = due[sent++];
            if (!waited && c->due >= 1.0) late[lates++] = (float)((now() - begin - c->due) * 1e6);
            c->busy = 1;
            c->sent = c->filled = 0;
            if (!push(c)) shutdown(c->fd, SHUT_RDWR); /* epoll tells of it */
        }
        struct itimerspec when = {0};
        if (sent < total && free_count) {
            double until = begin + due[sent < next ? sent : next];
            when.it_value.tv_sec = (time_t)until;
            when.it_value.tv_nsec = (long)((until - floor(until)) * 1e9) + 1;
            if (when.it_value.tv_nsec > 999999999L) when.it_value.tv_nsec = 999999999L;
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
        }
        int ready = epoll_wait(events, found, MOST_EVENTS, 100);
        for (int i = 0; i < ready; i++) {
            Connection *c = found[i].data.ptr;
            if (!c) {
                uint64_t ticks;
                if (read(timer, &ticks, sizeof ticks) < 0) continue;
                continue;
            }
            if (c->busy && c->sent < length && !push(c)) c->sent = length;
            if (c->sent == length && (found[i].events & EPOLLOUT)) wait_for(c, EPOLLIN);
            if (!(found[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) continue;
            ssize_t n = recv(c->fd, c->answer + c->filled, ROOM - 1 - c->filled, 0);
            if (n < 0 && errno == EAGAIN) continue;
            int broken = n <= 0, ends = 0, status = -1;
            if (!broken) {
                c->filled += (size_t)n;
                status = c->busy ? status_of(c, &ends) : -1;
                if (!status) continue;
                broken = status < 0 || ends;
            }
            if (c->busy) { /* answered, or never to be */
                double passed = now() - begin - c->due;
                if (status != 200) errors++;
                if (c->due >= 1.0) took[counted++] = (float)(passed * 1e6);
                left--;
                c->busy = 0;
                c->gone = sent < next; /* there is a line: the next one's wait is not ours */
                freed[free_count++] = (int)(c - connections);
            }
            if (broken) {
                close(c->fd);
                connect_one(c);
            }
        }
    }
    errors += left;
    qsort(took, counted, sizeof *took, by_size);
    qsort(late, lates, sizeof *late, by_size);
    printf("{\"requests\":%zu,\"errors\":%zu,\"seconds\":%.3f,\"p50\":%.0f,\"p95\":%.0f,"
           "\"p99\":%.0f,\"most\":%.0f,\"late_us\":%.0f}\n",
           counted, errors, total ? due[total - 1] - 1.0 : 0.0, quantile(took, counted, 0.5),
           quantile(took, counted, 0.95), quantile(took, counted, 0.99),
           counted ? took[counted - 1] : 0.0, quantile(late, lates, 0.99));
    return 0;
}
