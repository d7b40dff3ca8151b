/* Deleting a tree that may be hostile. */
#ifndef FASTBOX_TREE_REMOVE_H
#define FASTBOX_TREE_REMOVE_H

/* Remove what dir/name (one component) is, with everything below it, however deep; without following
 * links, in constant memory. A missing name is fine. Returns 0 or -1 with errno. */
int fb_remove_tree(int dir, const char *name);
/* The same for an absolute path. */
int fb_remove_path(const char *path);

#endif
