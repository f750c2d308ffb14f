/* The bounded string functions that come with CANN, as far as its clients use them: each gives 0, or an error number after it has
 * emptied the target where that is asked for. Declared and defined here; the emulator's library exports none of them. */
#ifndef ASCEND_EMULATOR_SECUREC_H
#define ASCEND_EMULATOR_SECUREC_H

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#ifndef EOK
#define EOK 0
#endif
#ifndef EINVAL_AND_RESET
#define EINVAL_AND_RESET 150
#endif
#ifndef ERANGE_AND_RESET
#define ERANGE_AND_RESET 162
#endif
#ifndef EOVERLAP_AND_RESET
#define EOVERLAP_AND_RESET 182
#endif
#define SECUREC_MEM_MAX_LEN 0x7fffffffUL
#define SECUREC_STRING_MAX_LEN 0x7fffffffUL

typedef int errno_t;

#ifdef __cplusplus
extern "C" {
#endif

static inline errno_t memset_s(void *target, size_t room, int byte, size_t count) {
    if (target == NULL) return EINVAL;
    if (room == 0 || room > SECUREC_MEM_MAX_LEN) return ERANGE;
    if (count > room) { memset(target, byte, room); return ERANGE_AND_RESET; }
    memset(target, byte, count);
    return EOK;
}

static inline errno_t memmove_s(void *target, size_t room, const void *source, size_t count) {
    if (room == 0 || room > SECUREC_MEM_MAX_LEN) return ERANGE;
    if (target == NULL) return EINVAL;
    if (source == NULL) { memset(target, 0, room); return EINVAL_AND_RESET; }
    if (count > room) { memset(target, 0, room); return ERANGE_AND_RESET; }
    memmove(target, source, count);
    return EOK;
}

static inline errno_t memcpy_s(void *target, size_t room, const void *source, size_t count) {
    const char *from = (const char *)source;
    char *to = (char *)target;
    if (to != NULL && from != NULL && room > 0 && count <= room && to != from && to < from + count && from < to + count) {
        memset(target, 0, room);
        return EOVERLAP_AND_RESET;
    }
    return memmove_s(target, room, source, count);
}

/* Characters before the end, at most `limit`. */
static inline size_t securec_length(const char *text, size_t limit) {
    const char *end = (const char *)memchr(text, '\0', limit);
    return end == NULL ? limit : (size_t)(end - text);
}

static inline errno_t strncpy_s(char *target, size_t room, const char *source, size_t count) {
    size_t length;
    if (room == 0 || room > SECUREC_STRING_MAX_LEN) return ERANGE;
    if (target == NULL) return EINVAL;
    if (source == NULL) { target[0] = '\0'; return EINVAL_AND_RESET; }
    length = securec_length(source, count);
    if (length >= room) { target[0] = '\0'; return ERANGE_AND_RESET; }
    memmove(target, source, length);
    target[length] = '\0';
    return EOK;
}

static inline errno_t strcpy_s(char *target, size_t room, const char *source) {
    return strncpy_s(target, room, source, SECUREC_STRING_MAX_LEN);
}

static inline errno_t strncat_s(char *target, size_t room, const char *source, size_t count) {
    size_t used;
    if (room == 0 || room > SECUREC_STRING_MAX_LEN) return ERANGE;
    if (target == NULL) return EINVAL;
    used = securec_length(target, room);
    if (used == room) { target[0] = '\0'; return EINVAL_AND_RESET; }
    errno_t status = strncpy_s(target + used, room - used, source, count);
    if (status != EOK) target[0] = '\0';
    return status;
}

static inline errno_t strcat_s(char *target, size_t room, const char *source) {
    return strncat_s(target, room, source, SECUREC_STRING_MAX_LEN);
}

static inline char *strtok_s(char *text, const char *separators, char **context) {
    char *start = text != NULL ? text : *context, *end;
    if (start == NULL) return NULL;
    start += strspn(start, separators);
    if (*start == '\0') { *context = NULL; return NULL; }
    end = start + strcspn(start, separators);
    *context = *end == '\0' ? NULL : end + 1;
    *end = '\0';
    return start;
}

/* The number of characters, or -1 after the text was emptied. */
static inline int vsprintf_s(char *target, size_t room, const char *format, va_list arguments) {
    int length;
    if (target == NULL || format == NULL || room == 0 || room > SECUREC_STRING_MAX_LEN) return -1;
    length = vsnprintf(target, room, format, arguments);
    if (length >= 0 && (size_t)length < room) return length;
    target[0] = '\0';
    return -1;
}

/* As vsprintf_s, but what is cut off at `count` characters stays, with -1. */
static inline int vsnprintf_s(char *target, size_t room, size_t count, const char *format, va_list arguments) {
    int length;
    if (target == NULL || format == NULL || room == 0 || room > SECUREC_STRING_MAX_LEN) return -1;
    if (count >= room) return vsprintf_s(target, room, format, arguments);
    length = vsnprintf(target, count + 1, format, arguments);
    return length >= 0 && (size_t)length <= count ? length : -1;
}

static inline int sprintf_s(char *target, size_t room, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsprintf_s(target, room, format, arguments);
    va_end(arguments);
    return length;
}

static inline int snprintf_s(char *target, size_t room, size_t count, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf_s(target, room, count, format, arguments);
    va_end(arguments);
    return length;
}

#ifdef __cplusplus
}
#endif

#endif /* ASCEND_EMULATOR_SECUREC_H */
