/* SPDX-License-Identifier: Apache-2.0 */
/* What only main.c needs of diff.c. */
#ifndef POSIX_MAIN_H
#define POSIX_MAIN_H

void diff_start(int reference, int tested);
/* Removes the directory of the running case. */
void diff_drop(void);
/* Makes an existing directory that of the case, and lets go of it again. */
void diff_use(const char *name);
void diff_keep(void);

/* Starts a group of tests. */
void diff_section(void);

#endif
