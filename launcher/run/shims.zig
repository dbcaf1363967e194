//! Links to the programs in a folder that is on PATH.

const std = @import("std");
const system = @import("system.zig");
const format = @import("payload.zig");
const linux = system.linux;

/// Ends with a message if something else has the name of a program than a link to this artifact, or another version of it.
pub fn check(payload: *const format.Payload, artifacts: []const u8, folder: [:0]const u8) void {
    const fd = open(folder) orelse return;
    for (payload.programs) |program| {
        if (target_of(fd, program.name)) |target| {
            if (is_version(payload, artifacts, target)) continue;
        } else {
            var found: system.Stat = undefined;
            if (linux.errno(system.stat(fd, system.join(&.{program.name}), &found)) == .NOENT) continue;
        }
        system.fail(&.{ folder, "/", program.name, " is something else's. It stays as it is, and nothing was installed.\nRemove it, or give another folder: --builder-install FOLDER." });
    }
    system.close(fd);
}

/// `<artifacts><32 characters>-<name>-<version>/…`; there is no `-` in a version.
fn is_version(payload: *const format.Payload, artifacts: []const u8, target: []const u8) bool {
    if (!std.mem.startsWith(u8, target, artifacts)) return false;
    const folder = std.mem.sliceTo(target[artifacts.len..], '/');
    const version = std.mem.lastIndexOfScalar(u8, folder, '-') orelse return false;
    return version > 33 and std.mem.eql(u8, folder[33..version], payload.name);
}

/// Makes a link for each program, once `check` has found that it may.
pub fn install(payload: *const format.Payload, artifacts: []const u8, folder: [:0]const u8) void {
    make(folder);
    const fd: i32 = @intCast(system.must(linux.openat(system.here, folder, .{ .DIRECTORY = true, .CLOEXEC = true }, 0), &.{folder}));
    for (payload.programs) |program| {
        const target = system.join(&.{ artifacts, payload.folder, "/", program.path });
        const temporary = system.join(&.{ ".", program.name[0..@min(program.name.len, 200)], ".", system.decimal(@intCast(linux.getpid())) });
        _ = linux.unlinkat(fd, temporary, 0);
        _ = system.must(linux.symlinkat(target, fd, temporary), &.{ folder, "/", program.name });
        _ = system.must(linux.renameat(fd, temporary, fd, system.join(&.{program.name})), &.{ folder, "/", program.name });
        system.print(&.{ folder, "/", program.name, "\n" });
    }
}

/// Takes away the links that lead into this artifact.
pub fn uninstall(payload: *const format.Payload, artifacts: []const u8, folder: [:0]const u8) void {
    const fd = open(folder) orelse return;
    const ours = system.join(&.{ artifacts, payload.folder, "/" });
    for (payload.programs) |program| {
        const target = target_of(fd, program.name) orelse continue;
        if (std.mem.startsWith(u8, target, ours)) _ = linux.unlinkat(fd, system.join(&.{program.name}), 0);
    }
}

fn open(folder: [:0]const u8) ?i32 {
    const fd = linux.openat(system.here, folder, .{ .DIRECTORY = true, .CLOEXEC = true }, 0);
    return if (linux.errno(fd) == .SUCCESS) @intCast(fd) else null;
}

fn make(folder: [:0]const u8) void {
    for (1..folder.len + 1) |at| if (at == folder.len or folder[at] == '/') {
        const result = linux.mkdirat(system.here, system.join(&.{folder[0..at]}), 0o755);
        if (at == folder.len and linux.errno(result) != .EXIST) _ = system.must(result, &.{folder});
    };
}

fn target_of(fd: i32, name: []const u8) ?[]const u8 {
    const text = system.allocate(u8, 4096);
    const size = linux.readlinkat(fd, system.join(&.{name}), text.ptr, text.len);
    return if (linux.errno(size) == .SUCCESS) text[0..size] else null;
}
