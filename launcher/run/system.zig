//! The kernel: calls that end in a message, memory that is never given back, and text.

const std = @import("std");
pub const linux = std.os.linux;
const native = @import("builtin").cpu.arch;

pub const Path = [*:0]const u8;
pub const here: i32 = linux.AT.FDCWD;

/// Exit codes: the launchers' own, a wrong word, and what was found damaged.
pub const failed = 121;
pub const misused = 2;
pub const damaged = 3;

/// How this file was called, for messages. Set once, at the start.
pub var called: []const u8 = "run";
/// What a message has to be followed by: helpers end, and folders that are half full go.
pub var before_exit: *const fn () void = &nothing;
/// Says whether this process may speak as it ends with a status; of several that fail together one does.
pub var may_speak: *const fn (i32) bool = &always;

fn nothing() void {}
fn always(_: i32) bool {
    return true;
}

// -- memory and text --

var first: [1 << 16]u8 align(16) = @splat(0);
var block: []u8 = &first;

/// Memory, zeroed. The process ends soon.
pub fn allocate(comptime T: type, count: usize) []T {
    const size = std.mem.alignForward(usize, count * @sizeOf(T), 16);
    if (size > block.len) {
        if (size > 1 << 18) return @as([*]T, @ptrCast(@alignCast(map(size, false))))[0..count];
        block = map(1 << 20, false)[0 .. 1 << 20];
    }
    defer block = block[size..];
    return @as([*]T, @ptrCast(@alignCast(block.ptr)))[0..count];
}

/// Fresh memory: `shared` is the same in this process and those that it forks.
pub fn map(size: usize, shared: bool) [*]align(4096) u8 {
    const flags: linux.MAP = .{ .TYPE = if (shared) .SHARED else .PRIVATE, .ANONYMOUS = true };
    return @ptrFromInt(must(linux.mmap(null, size, .{ .READ = true, .WRITE = true }, flags, -1, 0), &.{"memory"}));
}

/// One text of several, with a NUL behind it.
pub fn join(parts: []const []const u8) [:0]u8 {
    var size: usize = 0;
    for (parts) |part| size += part.len;
    const whole = allocate(u8, size + 1);
    return joined(whole, parts);
}

/// The same in a buffer, which has to be large enough.
pub fn joined(buffer: []u8, parts: []const []const u8) [:0]u8 {
    var at: usize = 0;
    for (parts) |part| {
        @memcpy(buffer[at..][0..part.len], part);
        at += part.len;
    }
    buffer[at] = 0;
    return buffer[0..at :0];
}

pub fn decimal(number: u64) []const u8 {
    return decimal_in(allocate(u8, 21), number);
}

/// The same at the end of a buffer, which has to have 21 bytes.
pub fn decimal_in(buffer: []u8, number: u64) [:0]const u8 {
    var at = buffer.len - 1;
    buffer[at] = 0;
    var rest = number;
    while (true) {
        at -= 1;
        buffer[at] = @intCast('0' + rest % 10);
        rest /= 10;
        if (rest == 0) return buffer[at .. buffer.len - 1 :0];
    }
}

pub fn hex(bytes: []const u8) []const u8 {
    return hex_in(allocate(u8, 2 * bytes.len), bytes);
}

/// The same in a buffer, which has to be large enough.
pub fn hex_in(digits: []u8, bytes: []const u8) []const u8 {
    for (bytes, 0..) |byte, i| {
        digits[2 * i] = "0123456789abcdef"[byte >> 4];
        digits[2 * i + 1] = "0123456789abcdef"[byte & 15];
    }
    return digits[0 .. 2 * bytes.len];
}

// -- messages --

/// Writes a message. Whether somebody reads it does not matter.
pub fn say(parts: []const []const u8) void {
    _ = write(2, join(parts));
}

/// Writes to standard output what somebody waits for.
pub fn print(parts: []const []const u8) void {
    _ = must(write(1, join(parts)), &.{"standard output"});
}

/// Writes all of a text. Gives what the last call gave.
fn write(fd: i32, text: []const u8) usize {
    var rest = text;
    while (rest.len > 0) {
        const count = linux.write(fd, rest.ptr, rest.len);
        if (linux.errno(count) == .INTR) continue;
        if (linux.errno(count) != .SUCCESS) return count;
        rest = rest[count..];
    }
    return 0;
}

/// Ends with a message.
pub fn fail(parts: []const []const u8) noreturn {
    stop(failed, parts);
}

pub fn stop(status: i32, parts: []const []const u8) noreturn {
    const speaks = may_speak(status);
    before_exit();
    if (speaks) say(&.{ if (is_terminal()) erase else "", called, ": ", join(parts), "\n" });
    linux.exit_group(status);
}

const erase = "\r\x1b[K";

fn is_terminal() bool {
    const tcgets = 0x5401;
    var settings: [256]u8 = undefined;
    return linux.errno(linux.ioctl(2, tcgets, @intFromPtr(&settings))) == .SUCCESS;
}

/// A line on a terminal that the next one takes the place of; without text it goes.
pub fn progress(parts: []const []const u8) void {
    if (is_terminal()) say(&.{ erase, join(parts) });
}

/// What a call gave, or the end with a message: what was wanted, and why not.
pub fn must(result: usize, what: []const []const u8) usize {
    const error_number = linux.errno(result);
    if (error_number == .SUCCESS) return result;
    fail(&.{ join(what), ": ", reason(error_number) });
}

pub fn reason(number: linux.E) []const u8 {
    return switch (number) {
        .NOENT => "No such file or directory",
        .ACCES => "Permission denied",
        .PERM => "Operation not permitted",
        .EXIST => "File exists",
        .NOTDIR => "Not a directory",
        .ISDIR => "Is a directory",
        .LOOP => "A symbolic link where none is allowed",
        .NOSPC => "No space left on device",
        .DQUOT => "Disk quota exceeded",
        .ROFS => "Read-only file system",
        .FBIG => "File too large",
        .IO => "Input/output error",
        .NOMEM => "Cannot allocate memory",
        .MFILE, .NFILE => "Too many open files",
        .NAMETOOLONG => "File name too long",
        .@"2BIG" => "Argument list too long",
        .NOEXEC => "Exec format error",
        .TXTBSY => "Text file busy",
        .NOTEMPTY => "Directory not empty",
        else => join(&.{ "error ", decimal(@backingInt(number)) }),
    };
}

// -- files --

pub const regular: linux.O = .{ .NOFOLLOW = true, .NONBLOCK = true, .CLOEXEC = true };
pub const directory: linux.O = .{ .DIRECTORY = true, .NOFOLLOW = true, .CLOEXEC = true };

/// What stat(2) says, as the kernel lays it out.
pub const Stat = switch (native) {
    .x86_64 => extern struct { dev: u64, ino: u64, nlink: u64, mode: u32, uid: u32, gid: u32, pad: u32, rdev: u64, size: i64, rest: [88]u8 },
    .aarch64 => extern struct { dev: u64, ino: u64, mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u64, pad: u64, size: i64, rest: [72]u8 },
    else => @compileError("unknown CPU"),
};

pub const Kind = enum(u32) { directory = 0o040000, file = 0o100000, symlink = 0o120000, _ };

pub fn kind(found: *const Stat) Kind {
    return @fromBackingInt(@intCast(found.mode & 0o170000));
}

/// Symlinks are not followed. An empty path means the descriptor itself.
pub fn stat(fd: i32, path: Path, found: *Stat) usize {
    const empty_path = 0x1000;
    return linux.syscall4(
        .newfstatat,
        @bitCast(@as(isize, fd)),
        @intFromPtr(path),
        @intFromPtr(found),
        linux.AT.SYMLINK_NOFOLLOW | @as(usize, if (path[0] == 0) empty_path else 0),
    );
}

/// Programs may not be started from its file system.
pub fn is_noexec(fd: i32) bool {
    var words: [16]u64 = undefined;
    const flags = 10;
    const noexec = 8;
    return linux.errno(linux.syscall2(.fstatfs, @bitCast(@as(isize, fd)), @intFromPtr(&words))) == .SUCCESS and words[flags] & noexec != 0;
}

pub fn close(fd: i32) void {
    _ = linux.close(fd);
}

/// The bytes of a file that is open. Its end is where it was now.
pub fn contents(fd: i32, size: usize, path: []const u8) []const u8 {
    if (size == 0) return &.{};
    const place = must(linux.mmap(null, size, .{ .READ = true }, .{ .TYPE = .PRIVATE }, fd, 0), &.{path});
    return @as([*]const u8, @ptrFromInt(place))[0..size];
}

pub fn forget(bytes: []const u8) void {
    if (bytes.len > 0) _ = linux.munmap(@alignCast(bytes.ptr), bytes.len);
}

/// All bytes of `data` at `offset`.
pub fn write_at(fd: i32, data: []const u8, offset: u64, path: []const u8) void {
    var at: usize = 0;
    while (at < data.len) {
        const count = linux.pwrite(fd, data.ptr + at, data.len - at, @intCast(offset + at));
        if (linux.errno(count) == .INTR) continue;
        at += must(count, &.{path});
    }
}

/// The store's time: 1980-01-01 00:00 UTC.
pub fn set_time(fd: i32) void {
    const times: [2]linux.timespec = @splat(.{ .sec = 315532800, .nsec = 0 });
    _ = linux.utimensat(fd, null, &times, 0);
}

/// Names in a directory, each told to `visit`, but `.` and `..`.
pub fn each_name(fd: i32, context: anytype, comptime visit: fn (@TypeOf(context), i32, Path) void) void {
    var buffer: [8192]u8 align(8) = undefined;
    while (true) {
        const count = linux.getdents64(fd, &buffer, buffer.len);
        if (linux.errno(count) != .SUCCESS or count == 0) return;
        var at: usize = 0;
        while (at < count) {
            const name: Path = @ptrCast(buffer[at + 19 ..].ptr);
            at += std.mem.readInt(u16, buffer[at + 16 ..][0..2], .little);
            const text = std.mem.span(name);
            if (!std.mem.eql(u8, text, ".") and !std.mem.eql(u8, text, "..")) visit(context, fd, name);
        }
    }
}

/// Removes a file, or a directory with all that is in it, as far as that can be done.
pub fn remove(parent: i32, name: Path) void {
    const opened = linux.openat(parent, name, directory, 0);
    if (linux.errno(opened) != .SUCCESS) {
        _ = linux.unlinkat(parent, name, 0);
        return;
    }
    const fd: i32 = @intCast(opened);
    _ = linux.fchmod(fd, 0o700);
    // A listing may miss names while others are taken away: again, as long as there are fewer each time.
    var last: usize = std.math.maxInt(usize);
    while (true) {
        var found: usize = 0;
        _ = linux.lseek(fd, 0, 0);
        each_name(fd, &found, count_and_remove);
        if (found == 0 or found >= last) break;
        last = found;
    }
    close(fd);
    _ = linux.unlinkat(parent, name, linux.AT.REMOVEDIR);
}

fn count_and_remove(found: *usize, fd: i32, name: Path) void {
    found.* += 1;
    remove(fd, name);
}
