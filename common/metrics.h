// Metrics declared in a table (X-macro file metrics.def of each process), with their help text;
// Prometheus text format 0.0.4. Loop thread only.
//   METRIC(id, type, "berth_…", "label,label" or "", "help")
#pragma once

#include "common/core/buf.h"

#include <stddef.h>
#include <stdint.h>

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_def {
    enum metric_type type;
    const char *name;
    const char *labels; // comma-separated label names
    const char *help;
};

struct metrics;
struct metric_cell {
    double value;
};

struct metrics *metrics_new(const struct metric_def *defs, size_t n);
void metrics_free(struct metrics **m);

// The cell of a label combination, made if absent; one const char * per label follows. The pointer
// stays good (until metrics_clear of that metric), so that hot paths keep it.
struct metric_cell *metric_cell(struct metrics *m, size_t id, ...);
void metric_add(struct metrics *m, size_t id, double delta, ...);
void metric_set(struct metrics *m, size_t id, double value, ...);
void metric_clear(struct metrics *m,
                  size_t id); // forget all label combinations (gauges by license)

// Histograms have buckets 100 µs … 10 s (1-2.5-5 steps). Keep the handle for hot paths.
struct metric_histogram;
struct metric_histogram *metric_histogram(struct metrics *m, size_t id, ...);
void metric_observe_s(struct metric_histogram *h, double seconds);

// Called before each rendering, to fill gauges from the state they mirror.
void metrics_on_collect(struct metrics *m, void (*fn)(void *ctx), void *ctx);
// Appends the whole text. Process metrics (berth_process_cpu_seconds_total,
// …_resident_memory_bytes, …_open_fds, …_start_time_seconds) and berth_build_info{version} are
// added by itself.
void metrics_render(struct metrics *m, struct buf *out);
