/* The element walk for a whole batch of files in one call, without the GIL and without an object an element; with the
 * GIL where Python gives the bytes (walk_fetched).
 * walk_python.py says what is meant; the functions here have its names, and the tests hold both equal.
 *
 * Nothing is allocated from a declared size: values are copied only after their length was compared with
 * MAX_VALUE_BYTES (MAX_CSA_BYTES in group 0029, of Siemens' CSA header) and with the bytes there are.
 */
#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST_READ_BYTES = 8192, NEXT_READ_BYTES = 65536, MAX_VALUE_BYTES = 4096, MAX_CSA_BYTES = 65536, MOST_UID_BYTES = 64 };
enum { MAX_ELEMENTS = 1 << 21, MAX_LISTED = 1 << 16, MAX_DESCENTS = 64, KNOWN_BITS = 11 };
enum { OK, EMPTY, NOT_DICOM, UNREADABLE, CUT, BAD, REFERENCE, NO_MEMORY, FAILED }; /* FAILED: Python raised */
enum { SYNTAX_UNKNOWN, IMPLICIT, EXPLICIT, SYNTAX_OTHER };
enum {
    STATUS, ERRNO, SIZE, MTIME_NS, SYNTAX, REPAIRED, START, PIXEL_TAG, PIXEL_OFFSET, PIXEL_LENGTH,
    TABLE_OFFSET, TABLE_LENGTH, NEEDED, THERE, CUT_TAG, FACTS
};

#define UNDEFINED 0xFFFFFFFFu
#define ITEM 0xFFFEE000u
#define ITEM_END 0xFFFEE00Du
#define SEQUENCE_END 0xFFFEE0DDu
#define TRANSFER_SYNTAX 0x00020010u
#define OFFSET_TABLE 0x7FE00001u
#define STOP (-1)

/* ------------------------------------------------------------------ distinct values of the wanted elements */

typedef struct {
    int64_t offset; /* in the arena */
    uint32_t length;
    uint32_t hash;
} Value;

typedef struct {
    Value *values;
    int32_t count, room;
    int32_t *slots; /* open addressing; -1 is free */
    int32_t slot_count;
    int32_t last; /* what the file before had: mostly the same */
} Distinct;

typedef struct {
    uint8_t *bytes;
    int64_t length, room;
} Arena;

static uint32_t hash_bytes(const uint8_t *bytes, uint32_t length)
{
    const uint64_t prime = 0x9E3779B97F4A7C15u;
    uint64_t hash = length, word;
    for (; length >= 8; length -= 8, bytes += 8) {
        memcpy(&word, bytes, 8);
        hash = (hash ^ word) * prime;
        hash ^= hash >> 32;
    }
    for (; length; length--, bytes++) hash = (hash ^ *bytes) * prime;
    return (uint32_t)(hash >> 32);
}

static int rehash(Distinct *distinct)
{
    int32_t slot_count = distinct->slot_count ? distinct->slot_count * 4 : 64;
    int32_t *slots = malloc(sizeof(int32_t) * (size_t)slot_count);
    if (!slots) return STOP;
    memset(slots, 0xFF, sizeof(int32_t) * (size_t)slot_count);
    for (int32_t i = 0; i < distinct->count; i++) {
        uint32_t at = distinct->values[i].hash & (uint32_t)(slot_count - 1);
        while (slots[at] >= 0) at = (at + 1) & (uint32_t)(slot_count - 1);
        slots[at] = i;
    }
    free(distinct->slots);
    distinct->slots = slots;
    distinct->slot_count = slot_count;
    return 0;
}

static int same_value(const Distinct *distinct, const Arena *arena, int32_t code, const uint8_t *bytes, uint32_t length)
{
    const Value *value = &distinct->values[code];
    return value->length == length && memcmp(arena->bytes + value->offset, bytes, length) == 0;
}

static int32_t add_value(Distinct *distinct, Arena *arena, const uint8_t *bytes, uint32_t length, uint32_t hash)
{
    if (distinct->count == distinct->room) {
        int32_t room = distinct->room ? distinct->room * 2 : 16;
        Value *values = realloc(distinct->values, sizeof(Value) * (size_t)room);
        if (!values) return STOP;
        distinct->values = values;
        distinct->room = room;
    }
    if (arena->length + length > arena->room) {
        int64_t room = (arena->room + length) * 2 + 65536;
        uint8_t *grown = realloc(arena->bytes, (size_t)room);
        if (!grown) return STOP;
        arena->bytes = grown;
        arena->room = room;
    }
    memcpy(arena->bytes + arena->length, bytes, length);
    distinct->values[distinct->count] = (Value){arena->length, length, hash};
    arena->length += length;
    return distinct->count++;
}

/* Number a value: the same number for the same bytes. STOP where there is no memory. */
static int32_t number_value(Distinct *distinct, Arena *arena, const uint8_t *bytes, uint32_t length)
{
    if (distinct->last >= 0 && same_value(distinct, arena, distinct->last, bytes, length)) return distinct->last;
    if (distinct->count * 2 >= distinct->slot_count && rehash(distinct)) return STOP;
    uint32_t hash = hash_bytes(bytes, length), mask = (uint32_t)(distinct->slot_count - 1), at = hash & mask;
    while (distinct->slots[at] >= 0) {
        int32_t code = distinct->slots[at];
        if (distinct->values[code].hash == hash && same_value(distinct, arena, code, bytes, length))
            return distinct->last = code;
        at = (at + 1) & mask;
    }
    int32_t code = add_value(distinct, arena, bytes, length, hash);
    if (code >= 0) distinct->slots[at] = distinct->last = code;
    return code;
}

/* ------------------------------------------------------------------ the walk of one file */

typedef struct {
    uint32_t tag;
    char vr[2];
    int64_t offset, length;
} Element;

typedef struct {
    /* a window on the file, on what Python gives (fetch), or all of some bytes (fd -1) */
    int fd;
    PyObject *fetch; /* (file, position, count) -> bytes; walk_fetched */
    int64_t file;
    int64_t size, start, held;
    const uint8_t *data;
    uint8_t *buffer;
    /* what is looked for */
    const uint32_t *wanted, *stops;
    int wanted_count, stop_count, wanted_at, stop_at;
    /* what is found */
    int status;
    int64_t *facts, elements;
    int identified, declared_length;
    uint8_t declared[MOST_UID_BYTES];
    uint8_t *value; /* VR and value of a wanted element: MAX_CSA_BYTES + 2 */
    int32_t *codes; /* of this file: codes[number * file_count] */
    int64_t file_count;
    Distinct *distinct;
    Arena *arena;
    uint8_t *nest; /* by depth: whether the item there has VRs */
    int64_t nest_room;
    uint64_t *known; /* what to do with a tag of a VR (see note_known), by hash; NULL: nothing is kept in mind */
    /* walk_elements alone */
    Element *listed;
    int64_t listed_count, listed_room;
    int listing;
} Walk;

typedef struct {
    uint32_t tag, length;
    uint8_t vr[2];
    int64_t value;
} Head;

static int64_t stop(Walk *walk, int status)
{
    walk->status = status;
    return STOP;
}

static int64_t cut(Walk *walk, uint32_t tag, uint32_t length, int64_t value)
{
    walk->facts[CUT_TAG] = tag;
    walk->facts[NEEDED] = length;
    walk->facts[THERE] = walk->size - value;
    return stop(walk, CUT);
}

static inline uint32_t u16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }
static inline uint32_t u32(const uint8_t *p) { return u16(p) | u16(p + 2) << 16; }

/* Put the bytes that Python gives into the buffer; how many, or STOP (stopped). The GIL is held. */
static int64_t fetch_bytes(Walk *walk, int64_t position, int64_t amount)
{
    char *bytes;
    Py_ssize_t length;
    PyObject *given = PyObject_CallFunction(walk->fetch, "LLL", (long long)walk->file, (long long)position, (long long)amount);
    if (given == Py_None) {
        Py_DECREF(given);
        return stop(walk, UNREADABLE);
    }
    if (!given || PyBytes_AsStringAndSize(given, &bytes, &length) < 0) {
        Py_XDECREF(given);
        return stop(walk, FAILED);
    }
    if (length > amount) length = (Py_ssize_t)amount;
    memcpy(walk->buffer, bytes, (size_t)length);
    Py_DECREF(given);
    return length;
}

static int64_t pread_bytes(Walk *walk, int64_t position, int64_t amount)
{
    ssize_t got;
    do got = pread(walk->fd, walk->buffer, (size_t)amount, (off_t)position);
    while (got < 0 && errno == EINTR);
    if (got >= 0) return got;
    walk->facts[ERRNO] = errno;
    return stop(walk, UNREADABLE);
}

/* Read more of the file; the bytes from a position that is inside it, or NULL (stopped). */
static const uint8_t *read_at(Walk *walk, int64_t position, int64_t count)
{
    int64_t amount = position < FIRST_READ_BYTES / 2 && count <= FIRST_READ_BYTES ? FIRST_READ_BYTES : NEXT_READ_BYTES;
    if (amount > walk->size - position) amount = walk->size - position;
    int64_t got = walk->fetch ? fetch_bytes(walk, position, amount) : pread_bytes(walk, position, amount);
    if (got < 0) return NULL;
    walk->start = position;
    walk->held = got;
    if (got < count) {
        stop(walk, CUT);
        return NULL;
    }
    return walk->data;
}

static inline const uint8_t *at(Walk *walk, int64_t position, int64_t count)
{
    if (position >= walk->start && position + count <= walk->start + walk->held)
        return walk->data + (position - walk->start);
    return read_at(walk, position, count);
}

#define VR(a, b) ((unsigned)(a) << 8 | (unsigned)(b))

/* 1: short form, 2: long form of an explicit element's head, 0: no VR; by the two letters */
static uint8_t VR_FORMS[26 * 26];

static void fill_vr_forms(void)
{
    static const char short_vrs[] = "AEASATCSDADSDTFDFLISLOLTPNSHSLSSSTTMUIULUS", long_vrs[] = "OBODOFOLOVOWSQSVUCUNURUTUV";
    for (const char *vr = short_vrs; *vr; vr += 2) VR_FORMS[(vr[0] - 'A') * 26 + vr[1] - 'A'] = 1;
    for (const char *vr = long_vrs; *vr; vr += 2) VR_FORMS[(vr[0] - 'A') * 26 + vr[1] - 'A'] = 2;
}

static inline int vr_form(const uint8_t *vr)
{
    unsigned first = vr[0] - 'A', second = vr[1] - 'A';
    return first < 26 && second < 26 ? VR_FORMS[first * 26 + second] : 0;
}

static int may_be_undefined(const uint8_t *vr)
{
    unsigned code = VR(vr[0], vr[1]);
    return !code || code == VR('S', 'Q') || code == VR('U', 'N') || code == VR('O', 'B') || code == VR('O', 'W');
}

static int looks_explicit(const uint8_t *head)
{
    return head[4] >= 'A' && head[4] <= 'Z' && head[5] >= 'A' && head[5] <= 'Z';
}

/* Read one element's head; at least 8 bytes are there. */
static inline int64_t element(Walk *walk, int64_t position, int explicit, Head *head)
{
    if (++walk->elements > MAX_ELEMENTS) return stop(walk, BAD);
    const uint8_t *p = at(walk, position, 8);
    if (!p) return STOP;
    head->tag = u16(p) << 16 | u16(p + 2);
    head->vr[0] = head->vr[1] = 0;
    head->length = u32(p + 4);
    head->value = position + 8;
    if (!head->tag && !head->length) return stop(walk, BAD);
    if (!explicit || u16(p) == 0xFFFE) return 0;
    int form = vr_form(p + 4);
    if (!form) return stop(walk, REFERENCE);
    head->vr[0] = p[4];
    head->vr[1] = p[5];
    head->length = u16(p + 6);
    if (form == 1) return 0;
    if (walk->size - position < 12) return stop(walk, CUT);
    p = at(walk, position + 8, 4);
    if (!p) return STOP;
    head->length = u32(p);
    head->value = position + 12;
    return 0;
}

/* Return the number of a tag in an ascending list, -1 where it is not in it; cheap while tags ascend. */
static inline int find_tag(const uint32_t *tags, int count, int *cursor, uint32_t tag)
{
    int i = *cursor;
    if (i && tags[i - 1] >= tag) i = 0;
    while (i < count && tags[i] < tag) i++;
    *cursor = i;
    return i < count && tags[i] == tag ? i : -1;
}

static int is_identity(uint32_t tag) { return tag == 0x00080016 || tag == 0x00080018 || tag == 0x00080060; }

static int64_t keep_wanted(Walk *walk, int number, const uint8_t *vr, int64_t position, uint32_t length)
{
    if (length > MAX_VALUE_BYTES && walk->wanted[number] >> 16 != 0x0029) return stop(walk, REFERENCE);
    int32_t code = -1;
    if (length && length <= MAX_CSA_BYTES) {
        const uint8_t *p = at(walk, position, length);
        if (!p) return STOP;
        memcpy(walk->value, vr, 2);
        memcpy(walk->value + 2, p, length);
        code = number_value(&walk->distinct[number], walk->arena, walk->value, length + 2);
        if (code < 0) return stop(walk, NO_MEMORY);
    }
    walk->codes[number * walk->file_count] = code;
    return 0;
}

static int64_t keep(Walk *walk, const Head *head, uint32_t length)
{
    if (is_identity(head->tag)) walk->identified = 1;
    int number = find_tag(walk->wanted, walk->wanted_count, &walk->wanted_at, head->tag);
    return number < 0 ? 0 : keep_wanted(walk, number, head->vr, head->value, length);
}

/* ------------------------------------------------------------------ tags that were there before
 *
 * Nearly all elements of a batch are plain: a tag in a VR that is kept or skipped whatever the file. Each such pair is
 * decided about once; after that it is one look into a table: 48 bits of tag and VR (0 where implicit), one bit whether
 * the length has its long form, and 15 bits of the number among the wanted tags, from 1; 0 is not wanted. */

#define KEY_BITS 48
#define KEY (((uint64_t)1 << KEY_BITS) - 1)

static inline uint64_t key_of(const uint8_t *p, int explicit)
{
    return (uint64_t)u32(p) | (explicit ? (uint64_t)u16(p + 4) << 32 : 0);
}

/* Two places for each hash: the newer one comes first. */
static inline uint64_t *known_places(const Walk *walk, uint64_t key)
{
    return &walk->known[(key * 0x9E3779B97F4A7C15u) >> (64 - KNOWN_BITS) & ~(uint64_t)1];
}

static void note_known(Walk *walk, uint64_t key, const Head *head, int is_long)
{
    int number = find_tag(walk->wanted, walk->wanted_count, &walk->wanted_at, head->tag);
    if (number >= 0x7FFF || head->tag >> 16 == 0xFFFE || head->tag == OFFSET_TABLE) return;
    if (number < 0 && is_identity(head->tag)) return;
    if (number >= 0 && VR(head->vr[0], head->vr[1]) == VR('S', 'Q')) return;
    uint64_t *places = known_places(walk, key);
    places[1] = places[0];
    places[0] = ((uint64_t)(number + 1) << 1 | (uint64_t)is_long) << KEY_BITS | key;
}

/* Go over the elements, in order, whose tags are known; return where the first other one is. */
static int64_t skip_known(Walk *walk, int64_t position, int explicit, uint32_t *last)
{
    static const uint8_t no_vr[2];
    while (position >= walk->start && position + 12 <= walk->start + walk->held) {
        const uint8_t *p = walk->data + (position - walk->start);
        uint32_t tag = u16(p) << 16 | u16(p + 2), length;
        uint64_t key = key_of(p, explicit), *places = known_places(walk, key);
        uint64_t known = (places[0] & KEY) == key ? places[0] : places[1];
        if ((known & KEY) != key || tag <= *last || walk->elements >= MAX_ELEMENTS) break;
        int64_t value = position + 8;
        if (known >> KEY_BITS & 1) {
            length = u32(p + 8);
            value = position + 12;
        } else {
            length = explicit ? u16(p + 6) : u32(p + 4);
        }
        if (length == UNDEFINED || length > walk->size - value) break;
        int number = (int)(known >> (KEY_BITS + 1)) - 1;
        if (number >= 0) {
            walk->identified |= is_identity(tag);
            if (keep_wanted(walk, number, explicit ? p + 4 : no_vr, value, length)) return STOP;
        }
        walk->elements++;
        *last = tag;
        position = value + length;
    }
    return position;
}

/* ------------------------------------------------------------------ sequences */

/* Go into an item at a depth; whether it has VRs is kept until it ends. */
static int64_t enter_item(Walk *walk, int64_t position, int explicit, int64_t depth)
{
    if (explicit && walk->size - position >= 8) {
        const uint8_t *p = at(walk, position, 8);
        if (!p) return STOP;
        if (u16(p) != 0xFFFE) explicit = looks_explicit(p);
    }
    if (depth >= walk->nest_room) {
        int64_t room = walk->nest_room ? walk->nest_room * 2 : 64;
        uint8_t *grown = realloc(walk->nest, (size_t)room);
        if (!grown) return stop(walk, NO_MEMORY);
        walk->nest = grown;
        walk->nest_room = room;
    }
    walk->nest[depth] = (uint8_t)explicit;
    return 0;
}

/* Skip a sequence of undefined length. No depth is too deep: each level costs the file bytes, and elements are bounded. */
static int64_t items(Walk *walk, int64_t position, int explicit)
{
    Head head;
    int64_t depth = 0; /* items that the position is in: nest[1] to nest[depth] */
    int inside = 0; /* an item, else between items */
    for (;;) {
        if (walk->size - position < 8) return stop(walk, CUT);
        if (element(walk, position, inside && walk->nest[depth], &head)) return STOP;
        position = head.value;
        if (inside && head.tag == ITEM_END) {
            depth--;
            inside = 0;
            continue;
        }
        if (!inside && head.tag == SEQUENCE_END) {
            if (!depth) return position;
            inside = 1;
            continue;
        }
        if (inside ? head.length == UNDEFINED && !may_be_undefined(head.vr) : head.tag != ITEM) return stop(walk, REFERENCE);
        if (head.length == UNDEFINED) {
            inside = !inside;
            if (inside && enter_item(walk, position, depth ? walk->nest[depth] : explicit, depth + 1)) return STOP;
            depth += inside;
        } else if (head.length > walk->size - position) {
            return cut(walk, head.tag, head.length, position);
        } else {
            position += head.length;
        }
    }
}

static int64_t list_element(Walk *walk, const Head *head, int64_t length)
{
    if (walk->listed_count == MAX_LISTED) return stop(walk, BAD);
    if (walk->listed_count == walk->listed_room) {
        int64_t room = walk->listed_room ? walk->listed_room * 2 : 256;
        Element *grown = realloc(walk->listed, sizeof(Element) * (size_t)room);
        if (!grown) return stop(walk, NO_MEMORY);
        walk->listed = grown;
        walk->listed_room = room;
    }
    Element *element = &walk->listed[walk->listed_count++];
    *element = (Element){head->tag, {(char)head->vr[0], (char)head->vr[1]}, head->value, length};
    return 0;
}

/* Keep or skip one element; return where the next one is. */
static int64_t top_level(Walk *walk, const Head *head, int explicit, int ordered)
{
    int64_t end;
    if (head->length == UNDEFINED) {
        if (!may_be_undefined(head->vr)) return stop(walk, REFERENCE);
        end = items(walk, head->value, explicit);
        if (end < 0 || keep(walk, head, 0)) return STOP;
    } else {
        if (head->length > walk->size - head->value) {
            if (!ordered) return stop(walk, BAD);
            return cut(walk, head->tag, head->length, head->value);
        }
        end = head->value + head->length;
        if (keep(walk, head, VR(head->vr[0], head->vr[1]) == VR('S', 'Q') ? 0 : head->length)) return STOP;
    }
    if (head->tag == OFFSET_TABLE) {
        walk->facts[TABLE_OFFSET] = head->value;
        walk->facts[TABLE_LENGTH] = end - head->value;
    }
    if (walk->listing && list_element(walk, head, end - head->value)) return STOP;
    return end;
}

static int64_t data_set(Walk *walk, int64_t position, int explicit)
{
    Head head;
    uint32_t last = 0;
    int descents = 0;
    while (walk->size - position >= 8) {
        if (walk->known) {
            position = skip_known(walk, position, explicit, &last);
            if (position < 0) return STOP;
            if (walk->size - position < 8) break;
        }
        const uint8_t *p = at(walk, position, 8);
        if (!p) return STOP;
        if (!u32(p) && !u32(p + 4)) return 0; /* padding up to a block of the medium */
        uint64_t key = key_of(p, explicit);
        if (element(walk, position, explicit, &head)) return STOP;
        if (head.tag <= last && ++descents > MAX_DESCENTS) return stop(walk, BAD);
        if (head.tag >> 16 == 0xFFFE && (head.tag != SEQUENCE_END || head.length)) return stop(walk, BAD);
        if (find_tag(walk->stops, walk->stop_count, &walk->stop_at, head.tag) >= 0) return stop(walk, REFERENCE);
        if (head.tag == 0x7FE00008 || head.tag == 0x7FE00009 || head.tag == 0x7FE00010) {
            walk->facts[PIXEL_TAG] = head.tag;
            walk->facts[PIXEL_OFFSET] = head.value;
            walk->facts[PIXEL_LENGTH] = head.length == UNDEFINED ? -1 : (int64_t)head.length;
            return 0;
        }
        int64_t end = top_level(walk, &head, explicit, head.tag > last);
        if (end < 0) return STOP;
        if (walk->known && head.length != UNDEFINED && head.tag > last) note_known(walk, key, &head, head.value - position == 12);
        position = end;
        last = head.tag;
    }
    int64_t left = walk->size - position;
    const uint8_t *p = left > 0 ? at(walk, position, left) : NULL;
    if (left > 0 && !p) return STOP;
    for (int64_t i = 0; i < left; i++)
        if (p[i]) return stop(walk, CUT);
    return 0;
}

static int64_t meta(Walk *walk, int64_t position)
{
    Head head;
    while (walk->size - position >= 8) {
        const uint8_t *p = at(walk, position, 2);
        if (!p) return STOP;
        if (u16(p) != 2) break;
        if (element(walk, position, 1, &head)) return STOP;
        if (head.length > walk->size - head.value) return cut(walk, head.tag, head.length, head.value);
        if (keep(walk, &head, head.length)) return STOP;
        if (head.tag == TRANSFER_SYNTAX) {
            walk->identified = 1;
            walk->declared_length = head.length < MOST_UID_BYTES ? (int)head.length : MOST_UID_BYTES;
            p = at(walk, head.value, walk->declared_length);
            if (!p) return STOP;
            memcpy(walk->declared, p, (size_t)walk->declared_length);
        }
        position = head.value + head.length;
    }
    return position;
}

static int is_uid(const uint8_t *uid, int length, const char *text)
{
    return length == (int)strlen(text) && !memcmp(uid, text, (size_t)length);
}

static int declared_syntax(const uint8_t *uid, int length)
{
    static const char *const explicit_uids[] = {"1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.98", "1.2.840.10008.1.2.5"};
    while (length && (uid[length - 1] == ' ' || !uid[length - 1])) length--;
    while (length && (*uid == ' ' || !*uid)) uid++, length--;
    if (!length) return SYNTAX_UNKNOWN;
    if (is_uid(uid, length, "1.2.840.10008.1.2")) return IMPLICIT;
    if (is_uid(uid, length, "1.2.840.10008.1.2.4.95") || is_uid(uid, length, "1.2.840.10008.1.2.4.205"))
        return SYNTAX_OTHER; /* deflated */
    for (int i = 0; i < 3; i++)
        if (is_uid(uid, length, explicit_uids[i])) return EXPLICIT;
    int family = length >= 20 && (!memcmp(uid, "1.2.840.10008.1.2.4.", 20) || !memcmp(uid, "1.2.840.10008.1.2.7.", 20));
    return family ? EXPLICIT : SYNTAX_OTHER;
}

static int64_t parts(Walk *walk, int64_t position)
{
    position = meta(walk, position);
    if (position < 0) return STOP;
    walk->facts[START] = position;
    if (walk->size - position < 8) return stop(walk, CUT);
    int declared = declared_syntax(walk->declared, walk->declared_length);
    if (declared == SYNTAX_OTHER) return stop(walk, REFERENCE);
    const uint8_t *p = at(walk, position, 8);
    if (!p) return STOP;
    if (vr_form(p + 4) && p[1] > p[0]) return stop(walk, REFERENCE); /* big endian, whatever was declared */
    int actual = looks_explicit(p) ? EXPLICIT : IMPLICIT;
    walk->facts[SYNTAX] = actual;
    walk->facts[REPAIRED] = actual != declared;
    return data_set(walk, position, actual == EXPLICIT);
}

/* 1: may start with group 0002 or 0008, 0: not, STOP: big endian, or unreadable */
static int plausible_start(Walk *walk)
{
    if (walk->size < 8) return 0;
    const uint8_t *p = at(walk, 0, 8);
    if (!p) return STOP;
    if (!p[0] && (p[1] == 2 || p[1] == 8) && !p[2] && vr_form(p + 4)) {
        walk->identified = 1;
        return (int)stop(walk, REFERENCE);
    }
    return (p[0] == 2 || p[0] == 8) && !p[1];
}

/* Walk a file whose size is known. */
static void walk_sized(Walk *walk)
{
    if (!walk->size) {
        stop(walk, EMPTY);
        return;
    }
    int preamble = 0;
    if (walk->size >= 132) {
        const uint8_t *p = at(walk, 0, 132); /* from the start: whole pages are copied faster */
        if (!p) return;
        preamble = !memcmp(p + 128, "DICM", 4);
    }
    int plausible = preamble ? 1 : plausible_start(walk);
    if (plausible > 0) parts(walk, preamble ? 132 : 0);
    if (!plausible || (!preamble && !walk->identified && walk->status != UNREADABLE && walk->status < NO_MEMORY))
        walk->status = NOT_DICOM;
}

static void walk_open_file(Walk *walk)
{
    struct stat about;
    if (fstat(walk->fd, &about)) {
        walk->facts[ERRNO] = errno;
        stop(walk, UNREADABLE);
        return;
    }
    if (!S_ISREG(about.st_mode)) {
        stop(walk, NOT_DICOM);
        return;
    }
#ifdef __APPLE__
    struct timespec changed = about.st_mtimespec;
#else
    struct timespec changed = about.st_mtim;
#endif
    walk->facts[SIZE] = walk->size = about.st_size;
    walk->facts[MTIME_NS] = (int64_t)changed.tv_sec * 1000000000 + changed.tv_nsec;
    walk_sized(walk);
}

static void open_and_walk(Walk *walk, const char *path)
{
    do walk->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    while (walk->fd < 0 && errno == EINTR);
    if (walk->fd < 0) {
        walk->facts[ERRNO] = errno;
        walk->status = UNREADABLE;
    } else {
        walk_open_file(walk);
        close(walk->fd);
    }
}

/* Walk what Python opens (position -1): it gives size and time of the file, or None where it cannot. */
static void fetch_and_walk(Walk *walk)
{
    long long size, changed;
    PyObject *about = PyObject_CallFunction(walk->fetch, "LLL", (long long)walk->file, -1LL, 0LL);
    if (about == Py_None) {
        stop(walk, UNREADABLE);
    } else if (!about || !PyArg_ParseTuple(about, "LL", &size, &changed)) {
        stop(walk, FAILED);
    } else {
        walk->facts[SIZE] = walk->size = size;
        walk->facts[MTIME_NS] = changed;
        walk_sized(walk);
    }
    Py_XDECREF(about);
}

/* Walk one file by its path, or the one that Python gives. */
static void walk_file(Walk *walk, const char *path)
{
    walk->status = OK;
    walk->size = walk->start = walk->held = walk->elements = 0;
    walk->identified = walk->declared_length = walk->wanted_at = walk->stop_at = 0;
    walk->facts[PIXEL_OFFSET] = walk->facts[TABLE_OFFSET] = -1;
    if (walk->fetch) fetch_and_walk(walk);
    else open_and_walk(walk, path);
    walk->facts[STATUS] = walk->status;
    if (walk->status == NOT_DICOM)
        for (int i = 0; i < walk->wanted_count; i++) walk->codes[i * walk->file_count] = -1;
}

/* ------------------------------------------------------------------ for Python */

/* Where the distinct values of each wanted element are in the arena: (start, length) pairs of int64. */
static PyObject *list_places(const Distinct *distinct, int count)
{
    PyObject *all = PyList_New(count);
    for (int i = 0; all && i < count; i++) {
        PyObject *places = PyBytes_FromStringAndSize(NULL, distinct[i].count * 2 * (Py_ssize_t)sizeof(int64_t));
        if (!places) {
            Py_CLEAR(all);
            break;
        }
        int64_t *place = (int64_t *)(void *)PyBytes_AsString(places);
        for (int32_t n = 0; n < distinct[i].count; n++) {
            *place++ = distinct[i].values[n].offset;
            *place++ = distinct[i].values[n].length;
        }
        PyList_SetItem(all, i, places);
    }
    return all;
}

static uint32_t *read_tags(const Py_buffer *buffer, int *count)
{
    *count = (int)(buffer->len / 4);
    uint32_t *tags = malloc((size_t)buffer->len + 4);
    for (int i = 0; tags && i < *count; i++) tags[i] = u32((const uint8_t *)buffer->buf + 4 * (size_t)i);
    return tags;
}

static int walk_batch(Walk *walk, const char *paths, Py_ssize_t paths_length, int64_t *facts, int32_t *codes)
{
    const char *end = paths + paths_length;
    for (int64_t file = 0; file < walk->file_count; file++) {
        walk->facts = facts + file * FACTS;
        walk->codes = codes + file;
        walk->file = file;
        const char *path = paths;
        if (!walk->fetch) {
            const char *nul = memchr(path, 0, (size_t)(end - path));
            if (!nul) return STOP;
            paths = nul + 1;
        }
        walk_file(walk, path);
        if (walk->status == NO_MEMORY || walk->status == FAILED) return STOP;
    }
    return 0;
}

/* Walk a batch: by paths that end with NULs, or of what ``fetch`` gives. */
static PyObject *walk_all(const char *paths, Py_ssize_t length, PyObject *fetch, Py_ssize_t count, const Py_buffer *wanted,
                          const Py_buffer *stops)
{
    Walk walk;
    memset(&walk, 0, sizeof walk);
    Arena arena = {NULL, 0, 0};
    int failed = 1;
    PyObject *facts = NULL, *codes = NULL, *bytes = NULL, *places = NULL;
    walk.wanted = read_tags(wanted, &walk.wanted_count);
    walk.stops = read_tags(stops, &walk.stop_count);
    walk.data = walk.buffer = malloc(NEXT_READ_BYTES);
    walk.value = malloc(MAX_CSA_BYTES + 2);
    walk.distinct = calloc((size_t)walk.wanted_count + 1, sizeof(Distinct));
    walk.arena = &arena;
    walk.known = calloc(1 << KNOWN_BITS, sizeof(uint64_t));
    walk.file_count = count;
    walk.fetch = fetch;
    if (count >= 0 && (fetch || count <= length)) {
        facts = PyBytes_FromStringAndSize(NULL, count * FACTS * (Py_ssize_t)sizeof(int64_t));
        codes = PyBytes_FromStringAndSize(NULL, count * walk.wanted_count * (Py_ssize_t)sizeof(int32_t));
    }
    if (walk.wanted && walk.stops && walk.buffer && walk.value && walk.distinct && walk.known && facts && codes) {
        char *fact_bytes = PyBytes_AsString(facts), *code_bytes = PyBytes_AsString(codes);
        memset(fact_bytes, 0, (size_t)PyBytes_Size(facts));
        memset(code_bytes, 0xFF, (size_t)PyBytes_Size(codes));
        for (int i = 0; i < walk.wanted_count; i++) walk.distinct[i].last = -1;
        PyThreadState *released = fetch ? NULL : PyEval_SaveThread();
        failed = walk_batch(&walk, paths, length, (int64_t *)(void *)fact_bytes, (int32_t *)(void *)code_bytes);
        if (released) PyEval_RestoreThread(released);
        if (!failed) {
            bytes = PyBytes_FromStringAndSize((const char *)arena.bytes, (Py_ssize_t)arena.length);
            places = list_places(walk.distinct, walk.wanted_count);
        }
    }
    if (failed && !PyErr_Occurred()) PyErr_NoMemory();
    for (int i = 0; walk.distinct && i < walk.wanted_count; i++) {
        free(walk.distinct[i].values);
        free(walk.distinct[i].slots);
    }
    free((void *)walk.wanted);
    free((void *)walk.stops);
    free(walk.buffer);
    free(walk.value);
    free(walk.nest);
    free(walk.distinct);
    free(walk.known);
    free(arena.bytes);
    PyObject *result = bytes && places ? PyTuple_Pack(4, facts, codes, bytes, places) : NULL;
    Py_XDECREF(facts);
    Py_XDECREF(codes);
    Py_XDECREF(bytes);
    Py_XDECREF(places);
    return result;
}

static PyObject *walk_files(PyObject *module, PyObject *args)
{
    Py_buffer paths, wanted, stops;
    Py_ssize_t count;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*ny*y*", &paths, &count, &wanted, &stops)) return NULL;
    PyObject *result = walk_all(paths.buf, paths.len, NULL, count, &wanted, &stops);
    PyBuffer_Release(&paths);
    PyBuffer_Release(&wanted);
    PyBuffer_Release(&stops);
    return result;
}

static PyObject *walk_fetched(PyObject *module, PyObject *args)
{
    Py_buffer wanted, stops;
    PyObject *fetch;
    Py_ssize_t count;
    (void)module;
    if (!PyArg_ParseTuple(args, "Ony*y*", &fetch, &count, &wanted, &stops)) return NULL;
    PyObject *result = walk_all("", 0, fetch, count, &wanted, &stops);
    PyBuffer_Release(&wanted);
    PyBuffer_Release(&stops);
    return result;
}

static PyObject *walk_elements(PyObject *module, PyObject *args)
{
    Py_buffer header;
    int explicit;
    int64_t facts[FACTS] = {0};
    (void)module;
    if (!PyArg_ParseTuple(args, "y*p", &header, &explicit)) return NULL;
    Walk walk;
    memset(&walk, 0, sizeof walk);
    walk.fd = -1;
    walk.size = walk.held = header.len;
    walk.data = header.buf;
    walk.facts = facts;
    walk.listing = 1;
    data_set(&walk, 0, explicit);
    PyBuffer_Release(&header);
    PyObject *listed = walk.status == NO_MEMORY ? PyErr_NoMemory() : PyList_New(walk.listed_count);
    for (int64_t i = 0; listed && i < walk.listed_count; i++) {
        const Element *e = &walk.listed[i];
        int vr_length = e->vr[0] ? 2 : 0;
        PyObject *entry = Py_BuildValue("(Is#LL)", e->tag, e->vr, (Py_ssize_t)vr_length, (long long)e->offset, (long long)e->length);
        if (!entry) Py_CLEAR(listed);
        else PyList_SetItem(listed, i, entry);
    }
    free(walk.listed);
    free(walk.nest);
    return listed ? Py_BuildValue("(iN)", walk.status, listed) : NULL;
}

/* ------------------------------------------------------------------ plain numbers */

static const double TENS[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
                              1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static int is_padding(char c) { return c == ' ' || c == '\0' || c == '\t' || c == '\r' || c == '\n'; }
static int is_digit(char c) { return c >= '0' && c <= '9'; }

/* Read [+-]digits[.digits][e[+-]digits] exactly; 0 where it is not that, or has more digits than are exact so. */
static int parse_plain(const char *p, const char *end, double *number)
{
    uint64_t mantissa = 0;
    int digits = 0, any = 0, places = 0, exponent = 0, negative = 0;
    while (p < end && is_padding(*p)) p++;
    while (end > p && is_padding(end[-1])) end--;
    if (p < end && (*p == '+' || *p == '-')) negative = *p++ == '-';
    for (int fraction = 0; p < end; p++) {
        if (*p == '.' && !fraction) {
            fraction = 1;
        } else if (is_digit(*p)) {
            any = 1;
            places += fraction;
            if (mantissa || *p != '0') digits++;
            if (digits > 15 || places > 40) return 0;
            mantissa = mantissa * 10 + (uint64_t)(*p - '0');
        } else {
            break;
        }
    }
    if (!any) return 0;
    if (p < end && (*p == 'e' || *p == 'E')) {
        int down = 0;
        if (++p < end && (*p == '+' || *p == '-')) down = *p++ == '-';
        if (p == end || end - p > 3) return 0;
        for (; p < end && is_digit(*p); p++) exponent = exponent * 10 + (*p - '0');
        if (down) exponent = -exponent;
    }
    exponent -= places;
    if (p != end || exponent > 22 || exponent < -22) return 0;
    /* both operands are exact, so the one rounding is the right one (Clinger 1990) */
    double value = exponent < 0 ? (double)mantissa / TENS[-exponent] : (double)mantissa * TENS[exponent];
    *number = negative ? -value : value;
    return 1;
}

static int is_binary_vr(const char *vr)
{
    switch (VR((uint8_t)vr[0], (uint8_t)vr[1])) {
    case VR('U', 'S'): case VR('S', 'S'): case VR('U', 'L'): case VR('S', 'L'):
    case VR('F', 'L'): case VR('F', 'D'): case VR('U', 'V'): case VR('S', 'V'):
        return 1;
    default:
        return 0;
    }
}

static int plain_decimals(const char *value, Py_ssize_t length, Py_ssize_t count, double *numbers)
{
    const char *p = value + 2, *end = value + length;
    if (length < 2 || is_binary_vr(value)) return 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (p > end) return 0;
        const char *next = memchr(p, '\\', (size_t)(end - p));
        if (!next) next = end;
        if (!parse_plain(p, next, &numbers[i])) return 0;
        p = next + 1;
    }
    return 1;
}

static int plain_time(const char *value, Py_ssize_t length, Py_ssize_t count, double *numbers)
{
    const char *p = value + 2, *end = value + length;
    if (length < 2 || count != 1) return 0;
    while (p < end && is_padding(*p)) p++;
    while (end > p && is_padding(end[-1])) end--;
    if (end - p < 6 || (end - p > 6 && p[6] != '.')) return 0;
    for (int i = 0; i < 6; i++)
        if (!is_digit(p[i])) return 0;
    for (const char *q = p + 7; q < end; q++)
        if (!is_digit(*q)) return 0;
    int hours = (p[0] - '0') * 10 + p[1] - '0', minutes = (p[2] - '0') * 10 + p[3] - '0';
    double seconds;
    if (hours > 23 || minutes > 59 || !parse_plain(p + 4, end, &seconds) || seconds >= 61) return 0;
    numbers[0] = hours * 3600 + minutes * 60 + seconds;
    return 1;
}

typedef int (*Parser)(const char *, Py_ssize_t, Py_ssize_t, double *);

/* Distinct values as walk_files gives them: all bytes, and where each value is. */
typedef struct {
    Py_buffer bytes, places;
    Py_ssize_t count;
} Values;

static void release_values(Values *values)
{
    PyBuffer_Release(&values->bytes);
    PyBuffer_Release(&values->places);
}

/* The n-th value and its length; NULL where it is not inside the bytes. */
static const char *value_at(const Values *values, Py_ssize_t n, Py_ssize_t *length)
{
    int64_t place[2];
    memcpy(place, (const char *)values->places.buf + n * (Py_ssize_t)sizeof place, sizeof place);
    if (place[0] < 0 || place[1] < 0 || place[0] > values->bytes.len || place[1] > values->bytes.len - place[0]) {
        PyErr_SetString(PyExc_ValueError, "a value is not inside the bytes");
        return NULL;
    }
    *length = (Py_ssize_t)place[1];
    return (const char *)values->bytes.buf + place[0];
}

static PyObject *parse_all(PyObject *args, Parser parse)
{
    Values values;
    Py_ssize_t components;
    if (!PyArg_ParseTuple(args, "y*y*n", &values.bytes, &values.places, &components)) return NULL;
    Py_ssize_t count = values.places.len / (2 * (Py_ssize_t)sizeof(int64_t));
    if (components < 1 || components > 64) {
        PyErr_SetString(PyExc_ValueError, "1 to 64 components");
        release_values(&values);
        return NULL;
    }
    PyObject *numbers = PyBytes_FromStringAndSize(NULL, count * components * (Py_ssize_t)sizeof(double));
    PyObject *plain = PyBytes_FromStringAndSize(NULL, count);
    double *number = numbers ? (double *)(void *)PyBytes_AsString(numbers) : NULL;
    char *flag = plain ? PyBytes_AsString(plain) : NULL;
    for (Py_ssize_t i = 0; number && flag && i < count; i++, number += components) {
        Py_ssize_t length;
        const char *value = value_at(&values, i, &length);
        if (!value) {
            Py_CLEAR(numbers);
            break;
        }
        flag[i] = (char)parse(value, length, components, number);
        for (Py_ssize_t c = 0; !flag[i] && c < components; c++) number[c] = NAN;
    }
    PyObject *result = numbers && plain ? PyTuple_Pack(2, numbers, plain) : NULL;
    Py_XDECREF(numbers);
    Py_XDECREF(plain);
    release_values(&values);
    return result;
}

static PyObject *parse_decimals(PyObject *module, PyObject *args)
{
    (void)module;
    return parse_all(args, plain_decimals);
}

static PyObject *parse_times(PyObject *module, PyObject *args)
{
    (void)module;
    return parse_all(args, plain_time);
}

/* ------------------------------------------------------------------ plain texts */

/* Copy a text without the blanks and NULs around it; its length, 0 where it is empty or has anything but printable
 * ASCII or a blank beside a backslash. */
static Py_ssize_t plain_text(const char *value, Py_ssize_t length, char *text)
{
    const char *p = value + 2, *end = value + length;
    if (length < 2) return 0;
    while (p < end && (*p == ' ' || !*p)) p++;
    while (end > p && (end[-1] == ' ' || !end[-1])) end--;
    for (const char *q = p; q < end; q++) {
        if (*q < 0x20 || *q > 0x7e) return 0;
        if (*q == '\\' && (q == p || q + 1 == end || q[-1] == ' ' || q[1] == ' ')) return 0;
    }
    memcpy(text, p, (size_t)(end - p));
    return end - p;
}

static PyObject *plain_texts(PyObject *module, PyObject *args)
{
    Values values;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*", &values.bytes, &values.places)) return NULL;
    Py_ssize_t count = values.places.len / (2 * (Py_ssize_t)sizeof(int64_t)), total = 0, length = 0, at = 0;
    int all_plain = 1;
    for (Py_ssize_t i = 0; i < count && all_plain; i++) {
        all_plain = value_at(&values, i, &length) != NULL;
        total += all_plain ? length : 0;
    }
    all_plain = all_plain && total <= INT32_MAX;
    PyObject *offsets = PyBytes_FromStringAndSize(NULL, (count + 1) * (Py_ssize_t)sizeof(int32_t));
    PyObject *texts = PyBytes_FromStringAndSize(NULL, all_plain ? total : 0);
    int32_t *offset = offsets ? (int32_t *)(void *)PyBytes_AsString(offsets) : NULL;
    char *text = texts ? PyBytes_AsString(texts) : NULL;
    if (offset) offset[0] = 0;
    for (Py_ssize_t i = 0; offset && text && i < count && all_plain; i++) {
        const char *value = value_at(&values, i, &length);
        length = plain_text(value, length, text + at);
        all_plain = length > 0;
        at += length;
        offset[i + 1] = (int32_t)at;
    }
    release_values(&values);
    PyObject *result = NULL;
    if (offsets && texts && !PyErr_Occurred())
        result = all_plain ? PyTuple_Pack(2, offsets, texts) : Py_NewRef(Py_None);
    Py_XDECREF(offsets);
    Py_XDECREF(texts);
    return result;
}

static PyMethodDef METHODS[] = {
    {"walk_files", walk_files, METH_VARARGS, "(paths, count, wanted, stops) -> (facts, codes, bytes, places)"},
    {"walk_fetched", walk_fetched, METH_VARARGS, "(fetch, count, wanted, stops) -> (facts, codes, bytes, places)"},
    {"walk_elements", walk_elements, METH_VARARGS, "(header, explicit) -> (status, elements)"},
    {"parse_decimals", parse_decimals, METH_VARARGS, "(bytes, places, count) -> (numbers, plain)"},
    {"parse_times", parse_times, METH_VARARGS, "(bytes, places, count) -> (numbers, plain)"},
    {"plain_texts", plain_texts, METH_VARARGS, "(bytes, places) -> (offsets, texts), or None"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_walk", "The element walk of a batch of files.", 0, METHODS,
                                    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__walk(void)
{
    fill_vr_forms();
    return PyModule_Create(&MODULE);
}
