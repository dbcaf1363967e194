//! A program in one file. Its first start unpacks it below the user's data folder; every start becomes the unpacked program,
//! in the same process. It needs nothing of the machine but the kernel: no /proc, no shell, no C library.
//!
//! The standard library's start is not used: it would change the stack's limit and SIGPIPE, and programs inherit both.

const std = @import("std");
const system = @import("system.zig");
const format = @import("payload.zig");
const unpack = @import("unpack.zig");
const shims = @import("shims.zig");
const workers = @import("workers.zig");
const inherited = @import("inherited.zig");
const linux = system.linux;
const Path = system.Path;

pub const panic = std.debug.FullPanic(struct {
    fn end(message: []const u8, _: ?usize) noreturn {
        system.fail(&.{ "a fault of its own: ", message });
    }
}.end);

pub export fn _start() callconv(.naked) noreturn {
    asm volatile (switch (@import("builtin").cpu.arch) {
            .x86_64 =>
            \\ xorl %%ebp, %%ebp
            \\ movq %%rsp, %%rdi
            \\ andq $-16, %%rsp
            \\ callq %[begin:P]
            ,
            .aarch64 =>
            \\ mov x29, #0
            \\ mov x30, #0
            \\ mov x0, sp
            \\ and sp, x0, #-16
            \\ b %[begin]
            ,
            else => @compileError("unknown CPU"),
        }
        :
        : [begin] "X" (&begin),
    );
}

const Arguments = [*:null]?Path;

/// A program header, and what of it and of the auxiliary vector is looked at (elf(5), getauxval(3)).
const Header = extern struct { kind: u32, flags: u32, offset: u64, address: u64, physical: u64, size: u64, memory: u64, alignment: u64 };
const load = 1;
const read_only = 4;
const at_headers = 3;
const at_header_count = 5;
const at_secure = 23;
const at_random = 25;

/// What the kernel put on the stack: the number of arguments, these, the environment, and pairs of numbers.
fn begin(stack: [*]usize) callconv(.c) noreturn {
    const arguments: Arguments = @ptrCast(stack + 1);
    const environment: Arguments = @ptrCast(stack + 1 + stack[0] + 1);
    var end: usize = 0;
    while (environment[end] != null) end += 1;
    const pairs: [*]const [2]usize = @ptrCast(environment + end + 1);
    if (arguments[0]) |path| system.called = last_part(std.mem.span(path));

    var headers: []const Header = &.{};
    var i: usize = 0;
    while (pairs[i][0] != 0) : (i += 1) switch (pairs[i][0]) {
        at_headers => headers.ptr = @ptrFromInt(pairs[i][1]),
        at_header_count => headers.len = pairs[i][1],
        at_random => unpack.random = @as(*const [8]u8, @ptrFromInt(pairs[i][1])).*,
        // Which folder is unpacked to is the caller's to say: so with rights that the caller has not, nothing is started.
        at_secure => if (pairs[i][1] != 0) system.fail(&.{"it does not start with other rights than its caller's (setuid)"}),
        else => {},
    };
    inherited.watch();
    run(mapped(headers), arguments, environment);
}

fn mapped(headers: []const Header) []const u8 {
    for (headers) |header| if (header.kind == load and header.flags == read_only) {
        const bytes = @as([*]const u8, @ptrFromInt(header.address))[0..header.size];
        if (std.mem.startsWith(u8, bytes, format.magic)) return bytes;
    };
    format.broken();
}

fn run(bytes: []const u8, arguments: Arguments, environment: Arguments) noreturn {
    const payload = format.Payload.open(bytes);
    if (arguments[0]) |_| if (arguments[1]) |word| if (std.meta.stringToEnum(Option, std.mem.span(word))) |option| {
        workers.start();
        options(option, &payload, arguments, environment);
    };
    const found = choose(&payload, arguments);
    start(&payload, found.program, arguments + found.skip, environment);
}

fn start(payload: *const format.Payload, program: *const format.Program, given: Arguments, environment: Arguments) noreturn {
    const data = data_folder(environment);
    const path = system.join(&.{ data, "/artifacts/", payload.folder, "/", program.path });
    // Somebody may have started us without any, and then there is no place for one.
    var none = [_:null]?Path{null};
    const arguments: Arguments = if (given[0] == null) &none else given;
    // Its whole path, as its own first argument: some programs look for what belongs to them beside it.
    arguments[0] = path;
    inherited.unwatch();
    var result = linux.execve(path, @ptrCast(arguments), @ptrCast(environment));
    if (linux.errno(result) == .NOENT or linux.errno(result) == .NOTDIR) {
        inherited.watch();
        workers.start();
        const place: unpack.Place = .open(data);
        _ = unpack.into_place(payload, &place);
        inherited.unwatch();
        result = linux.execve(path, @ptrCast(arguments), @ptrCast(environment));
        if (linux.errno(result) == .NOENT) system.fail(&.{ path, ": it is not there any more\nTo unpack all anew: --builder-uninstall, and start it again." });
    }
    if (linux.errno(result) == .ACCES) {
        const opened = linux.openat(system.here, data, .{ .DIRECTORY = true, .CLOEXEC = true }, 0);
        if (linux.errno(opened) == .SUCCESS and system.is_noexec(@intCast(opened))) unpack.noexec(data);
    }
    system.fail(&.{ path, ": ", system.reason(linux.errno(result)) });
}

// -- which program --

const Choice = struct { program: *const format.Program, skip: usize };

/// The program that the file's name says, else the main one, else the one that the first argument says.
fn choose(payload: *const format.Payload, arguments: Arguments) Choice {
    if (by_name(payload, system.called)) |program| return .{ .program = program, .skip = 0 };
    if (payload.main) |main| return .{ .program = &payload.programs[main], .skip = 0 };
    if (arguments[0]) |_| if (arguments[1]) |word| {
        if (exactly(payload, std.mem.span(word))) |program| return .{ .program = program, .skip = 1 };
    };
    if (payload.programs.len == 0) system.stop(system.misused, &.{"there is no program in it; --builder-help says what can be done with it"});
    system.stop(system.misused, &.{ "which program? Its name is the first argument, or that of a link to this file:\n", listed(payload) });
}

/// `jq`, `jq.run` and `jq-1.7.1-x86_64-linux.run` are jq; of several the longest name.
fn by_name(payload: *const format.Payload, called: []const u8) ?*const format.Program {
    if (exactly(payload, called)) |program| return program;
    const name = if (std.mem.endsWith(u8, called, ".run")) called[0 .. called.len - 4] else called;
    if (exactly(payload, name)) |program| return program;
    var found: ?*const format.Program = null;
    for (payload.programs) |*program| {
        if (!std.mem.startsWith(u8, name, program.name)) continue;
        if (std.mem.indexOfScalar(u8, "-._", name[program.name.len]) == null) continue;
        if (found == null or program.name.len > found.?.name.len) found = program;
    }
    return found;
}

fn exactly(payload: *const format.Payload, name: []const u8) ?*const format.Program {
    for (payload.programs) |*program| if (std.mem.eql(u8, program.name, name)) return program;
    return null;
}

fn listed(payload: *const format.Payload) []const u8 {
    var text: []const u8 = "";
    for (payload.programs) |program| text = system.join(&.{ text, "  ", program.name, "\n" });
    return text;
}

// -- options --

const Option = enum {
    @"--builder-help",
    @"--builder-run",
    @"--builder-list",
    @"--builder-verify",
    @"--builder-extract",
    @"--builder-install",
    @"--builder-uninstall",
};

fn options(option: Option, payload: *const format.Payload, arguments: Arguments, environment: Arguments) noreturn {
    const word: ?[:0]const u8 = if (arguments[2]) |path| std.mem.span(path) else null;
    const most: usize = switch (option) {
        .@"--builder-run" => std.math.maxInt(usize),
        .@"--builder-extract", .@"--builder-install", .@"--builder-uninstall" => 1,
        else => 0,
    };
    var count: usize = 0;
    while (arguments[2 + count] != null) count += 1;
    if (count > most) system.stop(system.misused, &.{ "too many words for ", @tagName(option) });
    switch (option) {
        .@"--builder-help" => help(payload),
        .@"--builder-run" => {
            const name = word orelse system.stop(system.misused, &.{ "--builder-run PROGRAM [ARGUMENT...]: which program?\n", listed(payload) });
            const program = exactly(payload, name) orelse system.stop(system.misused, &.{ "it has no program ", name, ", but\n", listed(payload) });
            start(payload, program, arguments + 2, environment);
        },
        .@"--builder-list" => list(payload),
        .@"--builder-verify" => {
            const tree = system.join(&.{ data_folder(environment), "/artifacts/", payload.folder });
            const unpacked = unpack.verify(payload, tree);
            system.print(&.{ system.called, ": as it was made\n", if (unpacked) system.join(&.{ tree, ": what was unpacked is as it was\n" }) else "" });
        },
        .@"--builder-extract" => {
            const folder = word orelse system.stop(system.misused, &.{"--builder-extract FOLDER: which folder?"});
            if (folder.len == 0) system.stop(system.misused, &.{"--builder-extract FOLDER: which folder?"});
            unpack.into_folder(payload, folder);
            system.print(&.{ folder, "\n" });
        },
        .@"--builder-install" => {
            const data = data_folder(environment);
            const artifacts = system.join(&.{ data, "/artifacts/" });
            const folder = shim_folder(word, environment);
            const place: unpack.Place = .open(data);
            shims.check(payload, artifacts, folder);
            // What is there since long is compared; what was just written was.
            if (!unpack.into_place(payload, &place)) _ = unpack.verify(payload, system.join(&.{ artifacts, payload.folder }));
            shims.install(payload, artifacts, folder);
            mind_path(folder, environment);
        },
        .@"--builder-uninstall" => {
            const data = data_folder(environment);
            const place = unpack.Place.existing(data);
            shims.uninstall(payload, system.join(&.{ data, "/artifacts/" }), shim_folder(word, environment));
            if (place) |found| found.remove(payload);
        },
    }
    linux.exit_group(0);
}

fn help(payload: *const format.Payload) noreturn {
    const name = system.called;
    system.print(&.{
        payload.title,                                                                                                     ", in one file\n\n",
        name,                                                                                                              " [ARGUMENT...]\n",
        "    Start it. The first start unpacks it, once, to $XDG_DATA_HOME/builder-run, ~/.local/share/builder-run, or\n", "    $BUILDER_RUN_DATA/builder-run. What several such files have in common is there once.\n",
        name,                                                                                                              " --builder-run PROGRAM [ARGUMENT...]\n",
        "    Start one of its programs. All arguments are the program's own, whatever they are.\n",                        name,
        " --builder-install [FOLDER]\n",                                                                                   "    Make links to its programs in ~/.local/bin, or another folder. They work without this file.\n",
        name,                                                                                                              " --builder-uninstall [FOLDER]\n",
        "    Take the links away, and what was unpacked.\n",                                                               name,
        " --builder-extract FOLDER\n",                                                                                     "    Write all of it to a new folder, which can be moved and changed.\n",
        name,                                                                                                              " --builder-verify\n",
        "    Compare this file, and what it unpacked, with the digests of what was made.\n",                               name,
        " --builder-list\n",                                                                                               "    Say what is in it.\n\nprograms:\n",
        listed(payload),                                                                                                   "artifact: b3:",
        system.hex(payload.artifact),                                                                                      "\n",
    });
    linux.exit_group(0);
}

fn list(payload: *const format.Payload) void {
    const all = payload.all();
    var lines = system.allocate(u8, 1 << 16);
    var used: usize = 0;
    for (all.entries) |entry| {
        const line = switch (entry.what) {
            .directory => continue,
            .file => |number| system.join(&.{ system.decimal(all.contents[number].size), " ", entry.path, "\n" }),
            .symlink => |target| system.join(&.{ "- ", entry.path, " -> ", target, "\n" }),
        };
        if (used + line.len > lines.len) {
            system.print(&.{lines[0..used]});
            used = 0;
        }
        @memcpy(lines[used..][0..line.len], line);
        used += line.len;
    }
    system.print(&.{lines[0..used]});
}

// -- folders --

fn variable(environment: Arguments, comptime name: []const u8) ?[:0]const u8 {
    var i: usize = 0;
    while (environment[i]) |entry| : (i += 1) {
        const text = std.mem.span(entry);
        if (std.mem.startsWith(u8, text, name ++ "=") and text.len > name.len + 1) return text[name.len + 1 ..];
    }
    return null;
}

fn absolute(path: ?[:0]const u8) ?[:0]const u8 {
    const found = path orelse return null;
    return if (found[0] == '/' and found.len < 2048) found else null;
}

fn data_folder(environment: Arguments) [:0]const u8 {
    if (variable(environment, "BUILDER_RUN_DATA")) |path| {
        const folder = absolute(path) orelse system.fail(&.{"BUILDER_RUN_DATA is to be the whole path of a folder"});
        return system.join(&.{ folder, "/builder-run" });
    }
    if (absolute(variable(environment, "XDG_DATA_HOME"))) |path| return system.join(&.{ path, "/builder-run" });
    if (absolute(variable(environment, "HOME"))) |path| return system.join(&.{ path, "/.local/share/builder-run" });
    system.fail(&.{"where to unpack? HOME is not set: set it, or BUILDER_RUN_DATA to a folder for that"});
}

fn shim_folder(word: ?[:0]const u8, environment: Arguments) [:0]const u8 {
    if (word) |folder| if (folder.len > 0) return system.join(&.{if (folder.len > 1) std.mem.trimEnd(u8, folder, "/") else folder});
    const home = absolute(variable(environment, "HOME")) orelse system.fail(&.{"HOME is not set: which folder is to have the links?"});
    return system.join(&.{ home, "/.local/bin" });
}

fn mind_path(folder: []const u8, environment: Arguments) void {
    var parts = std.mem.splitScalar(u8, variable(environment, "PATH") orelse "", ':');
    while (parts.next()) |part| if (std.mem.eql(u8, std.mem.trimEnd(u8, part, "/"), folder)) return;
    system.say(&.{ folder, " is not on PATH: add it, and they start by their names\n" });
}

fn last_part(path: []const u8) []const u8 {
    return path[if (std.mem.lastIndexOfScalar(u8, path, '/')) |at| at + 1 else 0..];
}
