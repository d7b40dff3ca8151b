"""The table of all commands: where each one's code is, how it can be spelled, what it does.

``fastbox --help`` needs only this; a command's module is imported when the command runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .command import FlagCommand


class Entry:
    """One command.

    Attributes:
        module: below ``fastbox.cli``; its ``COMMAND`` is the command.
        summary: one line.
        spellings: all ways to type it, as ``--help`` lists them.
        common: listed under *Common Commands*.
    """

    __slots__ = ("common", "hidden", "module", "spellings", "summary")

    def __init__(
        self,
        module: str,
        summary: str,
        spellings: str,
        *,
        common: bool = False,
        hidden: bool = False,
    ) -> None:
        self.module = module
        self.summary = summary
        self.spellings = spellings.split(", ")
        self.common = common
        self.hidden = hidden

    def name_in(self, group: str) -> str:
        """The command's first name in a group (``""``: at the top level); ``""`` if it has none."""
        for spelling in self.spellings:
            head, space, tail = spelling.partition(" ")
            if group == (head if space else ""):
                return tail or head
        return ""


GROUPS = {
    "container": "Manage containers",
    "image": "Manage images",
    "manifest": "Look at what registries have",
    "network": "Manage networks",
    "supervisor": "Manage the supervisor (restart policies, health checks)",
    "system": "Manage fastbox",
    "volume": "Manage volumes",
}

# In the order in which the common ones are listed.
ENTRIES = (
    Entry("run", "Create and run a new container from an image", "container run, run", common=True),
    Entry("exec", "Execute a command in a running container", "container exec, exec", common=True),
    Entry("ps", "List containers", "container ls, container list, container ps, ps", common=True),
    Entry("pull", "Download an image from a registry", "image pull, pull", common=True),
    Entry("push", "Upload an image to a registry", "image push, push", common=True),
    Entry("images", "List images", "image ls, image list, images", common=True),
    Entry("login", "Authenticate to a registry (Docker Hub by default)", "login", common=True),
    Entry("logout", "Log out from a registry (Docker Hub by default)", "logout", common=True),
    Entry("search", "Search Docker Hub, or a registry, for images", "search", common=True),
    Entry("version", "Show the fastbox version information", "version", common=True),
    Entry("info", "Display system-wide information", "system info, info", common=True),
    Entry(
        "bootstrap",
        "Assemble an image from this system's package mirrors",
        "image bootstrap, bootstrap",
    ),
    Entry(
        "attach",
        "Attach local standard input, output, and error streams to a running container",
        "container attach, attach",
    ),
    Entry(
        "cp",
        "Copy files/folders between a container and the local filesystem",
        "container cp, cp",
    ),
    Entry(
        "commit",
        "Create a new image from a container's changes",
        "container commit, commit",
    ),
    Entry("complete", "What the end of a command line can become", "__complete", hidden=True),
    Entry("completion", "Generate the completion script for a shell", "completion"),
    Entry("create", "Create a new container", "container create, create"),
    Entry("events", "Get real time events from fastbox", "system events, events"),
    Entry(
        "diff",
        "Inspect changes to files or directories on a container's filesystem",
        "container diff, diff",
    ),
    Entry("history", "Show the history of an image", "image history, history"),
    Entry(
        "export",
        "Export a container's filesystem as a tar archive",
        "container export, export",
    ),
    Entry(
        "import_",
        "Import the contents from a tarball to create a filesystem image",
        "image import, import",
    ),
    Entry("inspect", "Return low-level information on fastbox objects", "inspect"),
    Entry("kill", "Kill one or more running containers", "container kill, kill"),
    Entry("load", "Load an image from a tar archive or STDIN", "image load, load"),
    Entry("logs", "Fetch the logs of a container", "container logs, logs"),
    Entry("pause", "Pause all processes within one or more containers", "container pause, pause"),
    Entry(
        "port",
        "List port mappings or a specific mapping for the container",
        "container port, port",
    ),
    Entry("rename", "Rename a container", "container rename, rename"),
    Entry("restart", "Restart one or more containers", "container restart, restart"),
    Entry("rm", "Remove one or more containers", "container rm, container remove, rm"),
    Entry("rmi", "Remove one or more images", "image rm, image remove, rmi"),
    Entry(
        "save",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        "image save, save",
    ),
    Entry("start", "Start one or more stopped containers", "container start, start"),
    Entry(
        "stats",
        "Display a live stream of container(s) resource usage statistics",
        "container stats, stats",
    ),
    Entry("stop", "Stop one or more running containers", "container stop, stop"),
    Entry("tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE", "image tag, tag"),
    Entry("top", "Display the running processes of a container", "container top, top"),
    Entry(
        "unpause",
        "Unpause all processes within one or more containers",
        "container unpause, unpause",
    ),
    Entry(
        "update",
        "Update configuration of one or more containers",
        "container update, update",
    ),
    Entry(
        "wait",
        "Block until one or more containers stop, then print their exit codes",
        "container wait, wait",
    ),
    Entry(
        "container_inspect",
        "Display detailed information on one or more containers",
        "container inspect",
    ),
    Entry("container_prune", "Remove all stopped containers", "container prune"),
    Entry("image_inspect", "Display detailed information on one or more images", "image inspect"),
    Entry("image_settle", "Finish what commits have put off", "image settle", hidden=True),
    Entry("manifest_inspect", "Display an image manifest, or manifest list", "manifest inspect"),
    Entry(
        "manifest_others",
        "Not supported",
        "manifest annotate, manifest create, manifest push, manifest rm",
        hidden=True,
    ),
    Entry("image_prune", "Remove unused images", "image prune"),
    Entry("network_connect", "Connect a container to a network", "network connect"),
    Entry("network_create", "Create a network", "network create"),
    Entry("network_disconnect", "Disconnect a container from a network", "network disconnect"),
    Entry(
        "network_inspect",
        "Display detailed information on one or more networks",
        "network inspect",
    ),
    Entry("network_ls", "List networks", "network ls, network list"),
    Entry("network_prune", "Remove all unused networks", "network prune"),
    Entry("network_rm", "Remove one or more networks", "network rm, network remove"),
    Entry("supervisor_install", "Install the systemd units", "supervisor install"),
    Entry("supervisor_run", "Be the supervisor", "supervisor run", hidden=True),
    Entry("supervisor_serve", "Run commands of the native client", "supervisor serve", hidden=True),
    Entry("supervisor_start", "Start the supervisor", "supervisor start"),
    Entry("supervisor_status", "Show the supervisor's state", "supervisor status"),
    Entry("supervisor_stop", "Stop the supervisor; containers go on running", "supervisor stop"),
    Entry("supervisor_uninstall", "Remove the systemd units", "supervisor uninstall"),
    Entry("system_check", "Check the store for damage, and put right what can be", "system check"),
    Entry("system_df", "Show how much disk fastbox uses", "system df"),
    Entry("system_prune", "Remove unused data", "system prune"),
    Entry("volume_create", "Create a volume", "volume create"),
    Entry(
        "volume_inspect", "Display detailed information on one or more volumes", "volume inspect"
    ),
    Entry("volume_ls", "List volumes", "volume ls, volume list"),
    Entry("volume_prune", "Remove unused local volumes", "volume prune"),
    Entry(
        "volume_rm",
        "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
        "volume rm, volume remove",
    ),
    Entry("cleanup", "Remove what is left of a container", "container cleanup", hidden=True),
)
BY_MODULE = {entry.module: entry for entry in ENTRIES}
BY_SPELLING = {spelling: entry for entry in ENTRIES for spelling in entry.spellings}


def load(entry: Entry) -> FlagCommand:
    """Import a command."""
    import importlib

    module = importlib.import_module(f"fastbox.cli.{entry.module}")
    command: FlagCommand = module.COMMAND
    return command


def listing(group: str) -> list[tuple[str, Entry]]:
    """(name, entry) of what ``--help`` of a group shows, sorted; ``""`` is the top level."""
    found: dict[str, Entry] = {}
    for entry in ENTRIES:
        name = entry.name_in(group)
        if name and not entry.hidden:
            found[name] = entry
    return sorted(found.items())
