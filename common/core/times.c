#include "common/core/times.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SECONDS_PER_DAY 86400
#define YEAR_MIN 1970
#define YEAR_MAX 9999

// Days since 1970-01-01 of a proleptic Gregorian date, and back ("chrono-compatible low-level date
// algorithms", H. Hinnant). Written out because timegm() depends on the environment's idea of time.
static int64_t days_from_civil(int64_t y, unsigned m, unsigned d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    unsigned yoe = (unsigned)(y - era * 400);
    unsigned doy = (153 * (m + (m > 2 ? -3U : 9U)) + 2) / 5 + d - 1;
    unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + (int64_t)doe - 719468;
}

static void civil_from_days(int64_t z, int64_t *y, unsigned *m, unsigned *d)
{
    z += 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    unsigned doe = (unsigned)(z - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned mp = (5 * doy + 2) / 153;
    *d = doy - (153 * mp + 2) / 5 + 1;
    *m = mp < 10 ? mp + 3 : mp - 9;
    *y = (int64_t)yoe + era * 400 + (*m <= 2);
}

char *wall_format(struct wall_time t, char buf[static 32])
{
    int64_t days = t.s / SECONDS_PER_DAY;
    int64_t rest = t.s % SECONDS_PER_DAY;
    if (rest < 0) {
        rest += SECONDS_PER_DAY;
        days--;
    }
    // Beyond four-digit years the text would not be ISO 8601 any more: show the nearest that is.
    const int64_t max_days = 2932896; // 9999-12-31
    const int64_t min_days = -719528; // 0000-01-01
    if (days > max_days) {
        days = max_days;
        rest = SECONDS_PER_DAY - 1;
    } else if (days < min_days) {
        days = min_days;
        rest = 0;
    }
    int64_t y;
    unsigned m, d;
    civil_from_days(days, &y, &m, &d);
    snprintf(buf, 32, "%04d-%02u-%02uT%02d:%02d:%02dZ", (int)y, m, d, (int)(rest / 3600),
             (int)(rest / 60 % 60), (int)(rest % 60));
    return buf;
}

// Exactly n digits at *p; moves *p. -1 if they are not there.
static int digits(const char **p, const char *end, int n)
{
    if (end - *p < n)
        return -1;
    int value = 0;
    for (int i = 0; i < n; i++) {
        char c = (*p)[i];
        if (c < '0' || c > '9')
            return -1;
        value = value * 10 + (c - '0');
    }
    *p += n;
    return value;
}

static bool literal(const char **p, const char *end, char c)
{
    if (*p == end || **p != c)
        return false;
    (*p)++;
    return true;
}

static int days_in_month(int y, int m)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    return m == 2 && leap ? 29 : days[m - 1];
}

// "Z" or "+hh:mm" / "-hh:mm": seconds east of UTC.
static int parse_offset(const char **p, const char *end, int64_t *offset_s)
{
    if (literal(p, end, 'Z')) {
        *offset_s = 0;
        return 0;
    }
    int sign = literal(p, end, '+') ? 1 : literal(p, end, '-') ? -1 : 0;
    int h = sign ? digits(p, end, 2) : -1;
    if (h < 0 || h > 23 || !literal(p, end, ':'))
        return -EINVAL;
    int min = digits(p, end, 2);
    if (min < 0 || min > 59)
        return -EINVAL;
    *offset_s = sign * (h * 3600 + min * 60);
    return 0;
}

// "hh:mm:ss[.fraction](Z|offset)": seconds to add to 00:00 UTC of the date.
static int parse_clock(const char **p, const char *end, int64_t *seconds)
{
    int h = digits(p, end, 2);
    if (h < 0 || h > 23 || !literal(p, end, ':'))
        return -EINVAL;
    int min = digits(p, end, 2);
    if (min < 0 || min > 59 || !literal(p, end, ':'))
        return -EINVAL;
    int s = digits(p, end, 2);
    if (s < 0 || s > 59)
        return -EINVAL;
    if (literal(p, end, '.')) {
        const char *first = *p;
        while (*p < end && **p >= '0' && **p <= '9')
            (*p)++;
        if (*p == first)
            return -EINVAL;
    }
    int64_t offset_s;
    if (parse_offset(p, end, &offset_s) < 0)
        return -EINVAL;
    *seconds = h * 3600 + min * 60 + s - offset_s;
    return 0;
}

int wall_parse(const char *text, size_t len, enum wall_date_rule rule, struct wall_time *out)
{
    const char *p = text;
    const char *end = text + len;
    int y = digits(&p, end, 4);
    if (y < YEAR_MIN || y > YEAR_MAX || !literal(&p, end, '-'))
        return -EINVAL;
    int m = digits(&p, end, 2);
    if (m < 1 || m > 12 || !literal(&p, end, '-'))
        return -EINVAL;
    int d = digits(&p, end, 2);
    if (d < 1 || d > days_in_month(y, m))
        return -EINVAL;
    int64_t t = days_from_civil(y, (unsigned)m, (unsigned)d) * SECONDS_PER_DAY;
    if (p == end) {
        if (rule == WALL_NO_DATE)
            return -EINVAL;
        out->s = rule == WALL_DATE_END ? t + SECONDS_PER_DAY : t;
        return 0;
    }
    int64_t seconds;
    if (!literal(&p, end, 'T') || parse_clock(&p, end, &seconds) < 0 || p != end)
        return -EINVAL;
    out->s = t + seconds;
    return 0;
}
