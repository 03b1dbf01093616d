"""A private Valkey or Redis server, found or started by name, that ends with its last user.

Owns ``embedded://`` URLs: where such a server lives, which binary it is, how it starts, who
keeps it alive and how it ends. Must not know jobs or queues, must not import redis-py, and
must never take the place of a server that a user named by another kind of URL.

How it holds together
---------------------
Each server has a directory of mode 0700 with its data, its log, its socket (elsewhere, if the
path is too long for one) and three lock files. Whether something is alive is never read from a
pid in a file: it is a ``flock`` on one of these files, which the kernel lets go of whatever way
a process ends.

=============== ======================================= ========================================
file            held by                                 means
=============== ======================================= ========================================
``users.lock``  every process that uses it, shared      somebody needs the server
``keeper.lock`` the sidecar, exclusively                somebody watches over the server
``server.lock`` the server itself (an inherited         a server runs on this directory
                descriptor), exclusively
=============== ======================================= ========================================

The **sidecar** is the parent of the server. One thread of it starts the server again if it
dies; the other blocks on the exclusive lock of ``users.lock`` and, when it gets it, stops the
server. Why the parent: a parent always knows whether its child lives, and a worker that has
been running for days gets its server back without having to ask for it.

* Two processes start at once: one of them gets ``keeper.lock`` and hands that very lock down
  to the sidecar, so that there is no moment in between; the others wait for the server.
* A user comes while the sidecar is about to stop the server: users join *before* they look
  for the server. Either that user's shared lock came first and the server stays, or the
  sidecar's exclusive one did, and the user waits until the server is gone and starts another.
* The sidecar is killed: ``keeper.lock`` is free, the server still runs. The next ``ensure``,
  or the next user that leaves, starts another sidecar. It first waits for ``server.lock``,
  which the running server holds: that wait *is* taking it over.
* The server is killed: the sidecar starts it again, on the same socket with the same data.
* Both are killed, or the machine was: the next ``ensure`` starts both. A stale socket file
  refuses connections, and the server replaces it when it binds.
* Pids are only used to send a signal, and only if ``server.lock`` is held and the process is
  in the session that the sidecar opened: a number used again cannot be in that session.

A ``flock`` belongs to the open file, not to the process. A forked child therefore shares the
lock of its parent, and counts as a user until it ends or closes its own copy; nothing here
ever *unlocks* a shared file (that would unlock it for the child too), it closes it. A started
program (``exec``) does not inherit it. The directory must be on a local file system.

Not covered: if the sidecar *and* every user are killed with SIGKILL, and the server is not, it
stays until the next ``ensure`` on its directory.
"""

from __future__ import annotations

from saq.queue.embedded.place import directory_of
from saq.queue.embedded.server import EmbeddedServer, ensure

__all__ = ["EmbeddedServer", "directory_of", "ensure"]
