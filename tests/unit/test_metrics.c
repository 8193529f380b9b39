// Metrics: the text format, escaping, histograms, cells that stay.
#include "common/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { CALLS, SEATS, DURATION };
static const struct metric_def defs[] = {
    {METRIC_COUNTER, "berth_calls_total", "method,outcome", "Calls.\nTwo lines."},
    {METRIC_GAUGE, "berth_seats", "", "Seats."},
    {METRIC_HISTOGRAM, "berth_duration_seconds", "method", "Duration."},
};

static void expect(const struct buf *text, const char *line)
{
    if (!strstr(text->data, line))
        fail_msg("'%s' is not in:\n%s", line, text->data);
}

static void collect(void *ctx)
{
    metric_set(ctx, SEATS, 7);
}

static void renders(void **state)
{
    (void)state;
    struct metrics *m = metrics_new(defs, 3);
    BUF_CLEANUP struct buf fresh = {0};
    metrics_render(m, &fresh);
    expect(&fresh, "\nberth_seats 0\n");
    metrics_on_collect(m, collect, m);
    struct metric_cell *cell = metric_cell(m, CALLS, "a\"b\\c\nd", "ok");
    cell->value += 2;
    metric_add(m, CALLS, 1, "x", "no");
    assert_ptr_equal(cell, metric_cell(m, CALLS, "a\"b\\c\nd", "ok"));
    struct metric_histogram *h = metric_histogram(m, DURATION, "x");
    metric_observe_s(h, 0.0001); // on the bound: in the bucket
    metric_observe_s(h, 0.3);
    metric_observe_s(h, 99);
    BUF_CLEANUP struct buf text = {0};
    metrics_render(m, &text);
    expect(&text,
           "# HELP berth_calls_total Calls.\\nTwo lines.\n# TYPE berth_calls_total counter\n");
    expect(&text, "berth_calls_total{method=\"a\\\"b\\\\c\\nd\",outcome=\"ok\"} 2\n");
    expect(&text, "berth_calls_total{method=\"x\",outcome=\"no\"} 1\n");
    expect(&text, "\nberth_seats 7\n");
    expect(&text, "berth_duration_seconds_bucket{method=\"x\",le=\"0.0001\"} 1\n");
    expect(&text, "berth_duration_seconds_bucket{method=\"x\",le=\"0.5\"} 2\n");
    expect(&text, "berth_duration_seconds_bucket{method=\"x\",le=\"10\"} 2\n");
    expect(&text, "berth_duration_seconds_bucket{method=\"x\",le=\"+Inf\"} 3\n");
    expect(&text, "berth_duration_seconds_count{method=\"x\"} 3\n");
    expect(&text, "berth_build_info{version=\"");
    expect(&text, "\nberth_process_open_fds ");
    metric_clear(m, CALLS);
    buf_clear(&text);
    metrics_render(m, &text);
    assert_non_null(strstr(text.data, "# TYPE berth_calls_total counter\n"));
    assert_null(strstr(text.data, "\nberth_calls_total"));
    metrics_free(&m);
    assert_null(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(renders)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
