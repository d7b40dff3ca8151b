/* The store's journal of events, as fastbox/events/journal.py describes it. */
#ifndef FASTBOX_JOURNAL_H
#define FASTBOX_JOURNAL_H

#include <stddef.h>

/* path: of the journal, "": none is kept. attributes: what every event of this container tells, as
 * the inside of a JSON object. */
void journal_open(const char *path, const char *id, const char *attributes);
/* Append an event; what cannot be written is not. more: further attributes, each with a comma before
 * it, or "". */
void journal_note(const char *action, const char *more);
/* Append an event that is there as its line has it, up to its time. */
void journal_write(const char *text, size_t length);

#endif
