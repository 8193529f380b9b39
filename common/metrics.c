#include "common/metrics.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define LABELS_MAX 6

static const double bucket_bounds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                       0.05,   0.1,     0.25,   0.5,   1,      2.5,   5,    10};
#define BUCKETS (sizeof bucket_bounds / sizeof *bucket_bounds)

struct metric_histogram {
    uint64_t buckets[BUCKETS + 1]; // not cumulative; the last one is +Inf
    double sum;
    uint64_t count;
};

struct series {
    char *labels; // `a="x",b="y"`, or ""
    union {
        struct metric_cell cell;
        struct metric_histogram histogram;
    };
    struct series *next;
};

struct family {
    const struct metric_def *def;
    struct series *series; // newest last
    struct series **end;
    size_t labels_len;
    const char *label_names[LABELS_MAX];
    char *label_text; // owns label_names
};

struct metrics {
    struct family *families;
    size_t len;
    double start_time_s;
    struct {
        void (*fn)(void *ctx);
        void *ctx;
    } collectors[8];
    size_t collectors_len;
};

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

struct metrics *metrics_new(const struct metric_def *defs, size_t n)
{
    struct metrics *m = must(calloc(1, sizeof *m));
    m->families = must(calloc(n ? n : 1, sizeof *m->families));
    m->len = n;
    for (size_t i = 0; i < n; i++) {
        struct family *f = &m->families[i];
        f->def = &defs[i];
        f->end = &f->series;
        f->label_text = must(strdup(defs[i].labels ? defs[i].labels : ""));
        char *save = NULL;
        for (char *l = strtok_r(f->label_text, ",", &save); l; l = strtok_r(NULL, ",", &save)) {
            if (f->labels_len == LABELS_MAX)
                abort();
            f->label_names[f->labels_len++] = l;
        }
        if (!f->labels_len) // shown from the beginning, as 0
            metric_cell(m, i);
    }
    // The wall time of the start, from the kernel's idea of when this process began.
    m->start_time_s = (double)time(NULL);
    return m;
}

void metric_clear(struct metrics *m, size_t id)
{
    struct family *f = &m->families[id];
    while (f->series) {
        struct series *next = f->series->next;
        free(f->series->labels);
        free(f->series);
        f->series = next;
    }
    f->end = &f->series;
}

void metrics_free(struct metrics **m)
{
    if (!*m)
        return;
    for (size_t i = 0; i < (*m)->len; i++) {
        metric_clear(*m, i);
        free((*m)->families[i].label_text);
    }
    free((*m)->families);
    free(*m);
    *m = NULL;
}

static void add_label_value(struct buf *b, const char *s)
{
    for (; *s; s++) {
        if (*s == '\\' || *s == '"')
            buf_add_char(b, '\\');
        if (*s == '\n')
            buf_add_str(b, "\\n");
        else
            buf_add_char(b, *s);
    }
}

static struct series *series_get(struct metrics *m, size_t id, va_list args)
{
    struct family *f = &m->families[id];
    BUF_CLEANUP struct buf key = {0};
    buf_add_str(&key, "");
    for (size_t i = 0; i < f->labels_len; i++) {
        buf_printf(&key, "%s%s=\"", i ? "," : "", f->label_names[i]);
        add_label_value(&key, va_arg(args, const char *));
        buf_add_char(&key, '"');
    }
    for (struct series *s = f->series; s; s = s->next) {
        if (!strcmp(s->labels, key.data))
            return s;
    }
    struct series *s = must(calloc(1, sizeof *s));
    s->labels = must(strdup(key.data));
    *f->end = s;
    f->end = &s->next;
    return s;
}

struct metric_cell *metric_cell(struct metrics *m, size_t id, ...)
{
    va_list args;
    va_start(args, id);
    struct series *s = series_get(m, id, args);
    va_end(args);
    return &s->cell;
}

void metric_add(struct metrics *m, size_t id, double delta, ...)
{
    va_list args;
    va_start(args, delta);
    struct series *s = series_get(m, id, args);
    va_end(args);
    s->cell.value += delta;
}

void metric_set(struct metrics *m, size_t id, double value, ...)
{
    va_list args;
    va_start(args, value);
    struct series *s = series_get(m, id, args);
    va_end(args);
    s->cell.value = value;
}

struct metric_histogram *metric_histogram(struct metrics *m, size_t id, ...)
{
    va_list args;
    va_start(args, id);
    struct series *s = series_get(m, id, args);
    va_end(args);
    return &s->histogram;
}

void metric_observe_s(struct metric_histogram *h, double seconds)
{
    size_t i = 0;
    while (i < BUCKETS && seconds > bucket_bounds[i])
        i++;
    h->buckets[i]++;
    h->sum += seconds;
    h->count++;
}

void metrics_on_collect(struct metrics *m, void (*fn)(void *ctx), void *ctx)
{
    if (m->collectors_len == sizeof m->collectors / sizeof *m->collectors)
        abort();
    m->collectors[m->collectors_len].fn = fn;
    m->collectors[m->collectors_len++].ctx = ctx;
}

// ---- text format ----

static void add_head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s ", name);
    for (const char *p = help; *p; p++)
        buf_add_str(out, *p == '\\' ? "\\\\" : *p == '\n' ? "\\n" : (char[2]){*p, '\0'});
    buf_printf(out, "\n# TYPE %s %s\n", name, type);
}

static void add_histogram(struct buf *out, const char *name, const struct series *s)
{
    const char *comma = *s->labels ? "," : "";
    uint64_t cumulative = 0;
    for (size_t i = 0; i <= BUCKETS; i++) {
        cumulative += s->histogram.buckets[i];
        buf_printf(out, "%s_bucket{%s%sle=\"", name, s->labels, comma);
        if (i < BUCKETS)
            buf_printf(out, "%g", bucket_bounds[i]);
        else
            buf_add_str(out, "+Inf");
        buf_printf(out, "\"} %llu\n", (unsigned long long)cumulative);
    }
    const char *open = *s->labels ? "{" : "";
    const char *close = *s->labels ? "}" : "";
    buf_printf(out, "%s_sum%s%s%s %.9g\n", name, open, s->labels, close, s->histogram.sum);
    buf_printf(out, "%s_count%s%s%s %llu\n", name, open, s->labels, close,
               (unsigned long long)s->histogram.count);
}

static void add_family(struct buf *out, const struct family *f)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    // Also without a sample yet: who looks for a metric finds what it is called.
    add_head(out, f->def->name, types[f->def->type], f->def->help);
    for (const struct series *s = f->series; s; s = s->next) {
        if (f->def->type == METRIC_HISTOGRAM)
            add_histogram(out, f->def->name, s);
        else if (*s->labels)
            buf_printf(out, "%s{%s} %.17g\n", f->def->name, s->labels, s->cell.value);
        else
            buf_printf(out, "%s %.17g\n", f->def->name, s->cell.value);
    }
}

static double resident_bytes(void)
{
    double pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    long size, resident;
    if (fscanf(f, "%ld %ld", &size, &resident) == 2)
        pages = (double)resident;
    fclose(f);
    return pages * (double)sysconf(_SC_PAGESIZE);
}

static double open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    if (!d)
        return 0;
    double n = -1; // the directory itself is open while it is counted
    for (struct dirent *e = readdir(d); e; e = readdir(d))
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void add_process(struct buf *out, const struct metrics *m)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    const struct {
        const char *name, *type, *help;
        double value;
    } rows[] = {
        {"berth_process_cpu_seconds_total", "counter", "CPU time of this process, user and system.",
         cpu},
        {"berth_process_resident_memory_bytes", "gauge", "Resident memory of this process.",
         resident_bytes()},
        {"berth_process_open_fds", "gauge", "Open file descriptors of this process.", open_fds()},
        {"berth_process_start_time_seconds", "gauge",
         "When this process started, seconds since the epoch.", m->start_time_s},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        add_head(out, rows[i].name, rows[i].type, rows[i].help);
        buf_printf(out, "%s %.17g\n", rows[i].name, rows[i].value);
    }
    add_head(out, "berth_build_info", "gauge", "Always 1; the version is a label.");
    buf_printf(out, "berth_build_info{version=\"%s\"} 1\n", BERTH_VERSION);
}

void metrics_render(struct metrics *m, struct buf *out)
{
    for (size_t i = 0; i < m->collectors_len; i++)
        m->collectors[i].fn(m->collectors[i].ctx);
    for (size_t i = 0; i < m->len; i++)
        add_family(out, &m->families[i]);
    add_process(out, m);
}
