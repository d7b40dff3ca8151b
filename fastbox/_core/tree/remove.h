/* Deleting a tree that may be hostile. */
#ifndef FASTBOX_TREE_REMOVE_H
#define FASTBOX_TREE_REMOVE_H

/* Delete `name` below the directory `parent` and all in it, never following a symlink. Iterative:
 * depth costs neither stack nor descriptors. A missing name is fine. 0, or -1 with errno. */
int fb_remove_tree(int parent, const char *name);

#endif
