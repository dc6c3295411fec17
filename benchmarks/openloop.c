/* The loop of openloop.py: sends each request at its moment, and notes what became of it.
 *
 *     openloop HOST PORT CONNECTIONS TIMEOUT_S SETTLE_S REQUEST MOMENTS OUTCOMES
 *
 * REQUEST holds the bytes of one request, MOMENTS the seconds after the begin as doubles, rising. OUTCOMES gets one
 * record for each request, in the order in which they ended; seconds in it count from the begin, too.
 *
 * One thread, one epoll, a stack of the connections that are free: the one used last is taken first. It is C because it
 * shares its cores with the server that it measures: what it takes, the server lacks.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <netinet/tcp.h>
#include <time.h>
#include <unistd.h>

enum { MODEL, FALLBACK, REFUSED, ERROR, TIMEOUT };
enum { EVENTS = 64, ROOM = 1 << 18, NOTHING = -1 };
static const double LOOK_EVERY_S = 0.25, SHORTEST_WAIT_S = 100e-6; /* sleeping costs a switch, spinning the core */

typedef struct {
    double latency_s, ended_s, late_s; /* late_s: NOTHING for a request that had to wait for a connection */
    long kind;
} outcome;

typedef struct {
    int socket; /* NOTHING where it is closed */
    double due_s, late_s; /* due_s: NOTHING while no request is under way */
    char *begun; /* of an answer that came in parts */
    size_t begun_size;
} connection;

static struct sockaddr_in address;
static char *request;
static size_t request_size;
static double *moments, timeout_s, begun_s;
static connection *connections;
static int connection_count, free_count, closed_count, poller;
static int *free_ones, *closed_ones;
static double *backlog; /* moments that came while every connection was in use */
static size_t count, backlog_first, backlog_end, ended;
static outcome *outcomes;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void *allocated(size_t size) {
    void *memory = calloc(1, size + 1);
    if (!memory) fail("memory");
    return memory;
}

static char *whole_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) fail(path);
    *size = (size_t)ftell(file);
    rewind(file);
    char *bytes = allocated(*size);
    if (fread(bytes, 1, *size, file) != *size) fail(path);
    fclose(file);
    return bytes;
}

/* Seconds after the begin. */
static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9 - begun_s;
}

static int has_backlog(void) { return backlog_first < backlog_end; }

static void note(double due_s, double late_s, int kind) {
    double now = now_s();
    outcomes[ended++] = (outcome){now - due_s, now, late_s, kind};
}

static void end(connection *one, int kind) {
    if (one->due_s != NOTHING) note(one->due_s, one->late_s, kind);
    one->due_s = NOTHING;
    one->begun_size = 0;
}

/* Whether a connection that was closed is open again, and free. */
static int reopen(void) {
    if (!closed_count) return 0;
    int number = closed_ones[closed_count - 1], on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) {
        if (fd >= 0) close(fd);
        return 0;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (unsigned)number};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
    closed_count--;
    connections[number].socket = fd;
    connections[number].due_s = NOTHING;
    free_ones[free_count++] = number;
    return 1;
}

static void shut(connection *one) {
    close(one->socket);
    one->socket = NOTHING;
    closed_ones[closed_count++] = (int)(one - connections);
}

static void broken(connection *one, int kind) {
    if (one->due_s == NOTHING)
        for (int at = 0; at < free_count; at++)
            if (free_ones[at] == one - connections) {
                memmove(free_ones + at, free_ones + at + 1, (size_t)(--free_count - at) * sizeof *free_ones);
                break;
            }
    end(one, kind);
    shut(one);
}

static void send_on(connection *one, double due_s, int waited) {
    one->due_s = due_s;
    if (send(one->socket, request, request_size, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)request_size)
        broken(one, ERROR);
    else
        one->late_s = waited ? NOTHING : now_s() - due_s;
}

/* Send what waits, for as long as a connection is free or can be opened. */
static void send_backlog(void) {
    while (has_backlog() && (free_count || reopen()))
        send_on(&connections[free_ones[--free_count]], backlog[backlog_first++], 1);
}

static void send_due(double due_s) {
    if (free_count)
        send_on(&connections[free_ones[--free_count]], due_s, 0);
    else
        backlog[backlog_end++] = due_s;
}

static int kind_of(const char *answer, size_t size) {
    if (!strncmp(answer + 9, "200", 3)) {
        int degraded = memmem(answer, size, "\"brownfield_degraded\":true", 26) || memmem(answer, size, "\"degraded\":true", 15);
        return degraded ? FALLBACK : MODEL;
    }
    return !strncmp(answer + 9, "503", 3) || !strncmp(answer + 9, "429", 3) ? REFUSED : ERROR;
}

/* Bytes of the first answer in what has come; 0 where more is to come. */
static size_t answer_size(char *data, size_t size, int *closes) {
    char *head_end = memmem(data, size, "\r\n\r\n", 4);
    if (!head_end) return 0;
    *head_end = 0;
    char *length = strcasestr(data, "\r\ncontent-length:");
    *closes = strcasestr(data, "\r\nconnection: close") != NULL;
    *head_end = '\r';
    size_t whole = (size_t)(head_end + 4 - data) + (length ? strtoul(length + 17, NULL, 10) : 0);
    return whole <= size ? whole : 0;
}

static void receive(connection *one) {
    static char room[ROOM + 1];
    int closes = 0;
    if (one->begun_size) memcpy(room, one->begun, one->begun_size);
    ssize_t got = recv(one->socket, room + one->begun_size, ROOM - one->begun_size, MSG_DONTWAIT);
    if (got <= 0 || one->due_s == NOTHING) { /* closed, or told something that it did not ask */
        broken(one, ERROR);
        return;
    }
    size_t size = one->begun_size + (size_t)got;
    room[size] = 0;
    if (!answer_size(room, size, &closes)) {
        if (!one->begun) one->begun = allocated(ROOM);
        memcpy(one->begun, room, size);
        one->begun_size = size;
        return;
    }
    end(one, kind_of(room, size));
    if (closes)
        shut(one);
    else
        free_ones[free_count++] = (int)(one - connections);
}

/* What has waited for longer than anyone would. */
static void give_up(void) {
    double latest = now_s() - timeout_s;
    while (has_backlog() && backlog[backlog_first] < latest) note(backlog[backlog_first++], NOTHING, TIMEOUT);
    for (connection *one = connections; one < connections + connection_count; one++)
        if (one->socket != NOTHING && one->due_s != NOTHING && one->due_s < latest) broken(one, TIMEOUT);
}

static void run(void) {
    struct epoll_event events[EVENTS];
    double look_s = LOOK_EVERY_S;
    size_t at = 0;
    while (ended < count) {
        double now = now_s();
        for (; at < count && moments[at] <= now; at++) send_due(moments[at]);
        send_backlog();
        double wait_s = (at < count && moments[at] < look_s ? moments[at] : look_s) - now_s();
        struct timespec wait = {0, wait_s > 0 ? (long)((wait_s > SHORTEST_WAIT_S ? wait_s : SHORTEST_WAIT_S) * 1e9) : 0};
        int ready = epoll_pwait2(poller, events, EVENTS, &wait, NULL);
        for (int each = 0; each < ready; each++) {
            connection *one = &connections[events[each].data.u32];
            if (one->socket != NOTHING) receive(one);
        }
        if ((now = now_s()) > look_s) {
            look_s = now + LOOK_EVERY_S;
            give_up();
        }
    }
}

int main(int argument_count, char **arguments) {
    if (argument_count != 9) return 2;
    size_t size;
    address.sin_family = AF_INET;
    address.sin_port = htons((unsigned short)atoi(arguments[2]));
    if (!inet_pton(AF_INET, arguments[1], &address.sin_addr)) return 2;
    connection_count = closed_count = atoi(arguments[3]);
    timeout_s = atof(arguments[4]);
    request = whole_file(arguments[6], &request_size);
    moments = (double *)whole_file(arguments[7], &size);
    count = size / sizeof *moments;
    connections = allocated((size_t)connection_count * sizeof *connections);
    free_ones = allocated((size_t)connection_count * sizeof *free_ones);
    closed_ones = allocated((size_t)connection_count * sizeof *closed_ones);
    backlog = allocated(count * sizeof *backlog);
    outcomes = allocated(count * sizeof *outcomes);
    for (int number = 0; number < connection_count; number++) {
        connections[number].socket = NOTHING;
        closed_ones[number] = number;
    }
    if ((poller = epoll_create1(EPOLL_CLOEXEC)) < 0) fail("epoll_create1");
    prctl(PR_SET_TIMERSLACK, 1UL);
    while (reopen()) continue;
    if (closed_count) fail("connect");
    begun_s = now_s() + atof(arguments[5]);
    run();
    FILE *file = fopen(arguments[8], "wb");
    if (!file || fwrite(outcomes, sizeof *outcomes, ended, file) != ended || fclose(file)) fail(arguments[8]);
    return 0;
}
