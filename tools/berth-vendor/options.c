#include "tools/berth-vendor/vendor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static struct option_value *find(struct option_value *options, const char *arg, size_t len)
{
    for (; options->name; options++) {
        if (options->kind != OPTION_OPERAND && strlen(options->name) == len &&
            !memcmp(options->name, arg, len))
            return options;
    }
    return NULL;
}

static struct option_value *find_operand(struct option_value *options)
{
    for (; options->name; options++) {
        if (options->kind == OPTION_OPERAND)
            return options;
    }
    return NULL;
}

static int add_value(struct option_value *option, const char *value)
{
    if (option->len && option->kind != OPTION_REPEATED && option->kind != OPTION_LIST)
        return vendor_fault("%s is given twice", option->name), 2;
    if (option->len == OPTION_VALUES_MAX)
        return vendor_fault("%s is given more than %d times", option->name, OPTION_VALUES_MAX), 2;
    option->values[option->len++] = value;
    return 0;
}

static bool is_dashed(const char *arg)
{
    return arg[0] == '-' && arg[1];
}

int options_read(struct option_value *options, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *equals = strchr(argv[i], '=');
        bool dashed = is_dashed(argv[i]);
        size_t len = equals ? (size_t)(equals - argv[i]) : strlen(argv[i]);
        struct option_value *option = dashed ? find(options, argv[i], len) : find_operand(options);
        if (!option)
            return vendor_fault("unknown argument \"%s\"", argv[i]), 2;
        if (option->kind == OPTION_FLAG && equals)
            return vendor_fault("%s has no value", option->name), 2;
        const char *value =
            dashed && option->kind != OPTION_FLAG ? equals ? equals + 1 : argv[++i] : argv[i];
        if (!value)
            return vendor_fault("%s needs a value", option->name), 2;
        int r = add_value(option, value);
        while (!r && option->kind == OPTION_LIST && i + 1 < argc && !is_dashed(argv[i + 1]))
            r = add_value(option, argv[++i]);
        if (r)
            return r;
    }
    for (; options->name; options++) {
        if (!options->len && (options->kind == OPTION_REQUIRED || options->kind == OPTION_OPERAND))
            return vendor_fault("%s is missing", options->name), 2;
    }
    return 0;
}

const struct option_value *option_find(const struct option_value *options, const char *name)
{
    while (strcmp(options->name, name) != 0)
        options++;
    return options;
}

const char *option_get(const struct option_value *options, const char *name)
{
    const struct option_value *option = option_find(options, name);
    return option->len ? option->values[option->len - 1] : NULL;
}

int vendor_fail(const struct error *err)
{
    return vendor_fault("%s", err->text);
}

int vendor_fault(const char *format, ...)
{
    va_list args;
    fputs("berth-vendor: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return 1;
}

int vendor_time(const char *option, const char *text, enum wall_date_rule rule,
                struct wall_time *out)
{
    if (!wall_parse(text, strlen(text), rule, out))
        return 0;
    return vendor_fault("%s: \"%s\" is neither a date (2027-11-24) nor a time "
                        "(2027-11-24T08:00:00Z)",
                        option, text);
}
