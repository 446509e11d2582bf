# The worker for executables: one function, one call at a time, over one private socket, as
# packs/python3/worker.py says.
#
# An executable is started once for each call. Its descriptor 3 is a socket: the request is one line
# on it, {"context":..,"payload":..}, and the reply is one line, {"payload":..} or
# {"error":{"type":"InputError","message":"..","stacktrace":[..]}}. What it prints is its log. A
# handler that ends in " worker" is started once for all calls instead, and speaks with the node
# itself. Everything here is bytes.
use strict;
use warnings;
use POSIX ();

my $FUNCTION = '/tmp/function';    # the engine says the same in every order
my $BINDINGS = '/tmp/bindings';    # what $SERVICE_BINDING_ROOT says
my ($program, $inbox) = (undef, '');
$SIG{PIPE} = 'IGNORE';
# Out of the way of the functions' own descriptor 3; never inherited, because it is above $^F.
my $high = POSIX::dup2(3, 100) // die "no channel: $!";
POSIX::close(3);
open(my $channel, '+<&=', $high) or die "no channel: $!";
fcntl($channel, 2, 1);             # F_SETFD, FD_CLOEXEC
# Rung when the program ends: the end of its descriptor 3 may be held open by what it left behind.
pipe(my $bell, my $rope) or die "no pipe: $!";
$_->blocking(0) for $bell, $rope;
my $REPLY_BYTES_MAX = 6 << 20;     # the node takes no longer one
# Seconds after which a program is looked after although nothing rang: Perl hears a signal that comes
# just before it begins to wait only when it has waited.
my $LOOK = 0.05;

sub send_line {
    my $text = $_[0] . "\n";
    while (length $text) {
        my $sent = syswrite($channel, $text) // exit 0;
        substr($text, 0, $sent, '');
    }
}

sub read_line {
    until ($inbox =~ /\n/) {
        sysread($channel, $inbox, 65536, length $inbox) or return;
    }
    $inbox =~ s/\A([^\n]*)\n// or return;
    return $1;
}

# Reads one value at pos() of the text: maps, lists, strings and numbers as Perl has them. What it
# takes is what the node takes.
my %ESCAPES = (b => "\b", f => "\f", n => "\n", r => "\r", t => "\t");

sub value {
    my $text = $_[0];
    $$text =~ /\G[ \t\r\n]+/gc;
    if ($$text =~ /\G"/gc) {
        my $from = pos $$text;
        1 while $$text =~ /\G[^"\\\x00-\x1f]+/gc || $$text =~ /\G\\(?:["\\\/bfnrt]|u[0-9a-fA-F]{4})/gc;
        my $inside = substr $$text, $from, pos($$text) - $from;
        $$text =~ /\G"/gc or die "not JSON\n";
        return unquote($inside);
    }
    if ($$text =~ /\G(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)/gc) { return $1 }
    if ($$text =~ /\G(true|false|null)/gc) { return $1 eq 'null' ? undef : $1 eq 'true' ? 1 : 0 }
    if ($$text =~ /\G\{/gc) {
        my %map;
        return \%map if $$text =~ /\G[ \t\r\n]*\}/gc;
        for (;;) {
            $$text =~ /\G[ \t\r\n]*(?=")/gc or die "not JSON\n";
            my $key = value($text);
            $$text =~ /\G[ \t\r\n]*:/gc or die "not JSON\n";
            $map{$key} = value($text);
            next if $$text =~ /\G[ \t\r\n]*,/gc;
            return \%map if $$text =~ /\G[ \t\r\n]*\}/gc;
            die "not JSON\n";
        }
    }
    if ($$text =~ /\G\[/gc) {
        my @list;
        return \@list if $$text =~ /\G[ \t\r\n]*\]/gc;
        for (;;) {
            push @list, value($text);
            next if $$text =~ /\G[ \t\r\n]*,/gc;
            return \@list if $$text =~ /\G[ \t\r\n]*\]/gc;
            die "not JSON\n";
        }
    }
    die "not JSON\n";
}

sub unquote {
    my $text = $_[0];
    $text =~ s/\\u([dD][89abAB]..)\\u([dD][c-fC-F]..)/utf8_of(0x10000 + ((hex($1) & 0x3ff) << 10) + (hex($2) & 0x3ff))/ge;
    $text =~ s/\\(?:u(....)|(.))/defined $1 ? utf8_of(hex $1) : $ESCAPES{$2} \/\/ $2/ges;
    return $text;
}

sub utf8_of {
    my $char = chr $_[0];
    utf8::encode($char);
    return $char;
}

# Whether these bytes are UTF-8, as Unicode has it and not as Perl does.
sub is_utf8 {
    my $text = $_[0];
    pos($text) = 0;
    1 while $text =~ /\G[\x00-\x7f]+/gc || $text =~ /\G(?:[\xc2-\xdf][\x80-\xbf]
        |\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]
        |\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}){1,1000}/gcx;
    return pos($text) == length $text;
}

sub quote {
    my $text = $_[0];
    $text =~ s/([\\"])/\\$1/g;
    $text =~ s/([\x00-\x1f])/sprintf '\\u%04x', ord $1/ge;
    return "\"$text\"";
}

sub make_folders {
    my $path = '';
    for my $part (split m{/}, $_[0]) {
        $path .= "$part/";
        mkdir $path;
    }
}

sub remove {
    my $path = $_[0];
    if (-d $path && !-l $path) {
        opendir(my $folder, $path) or return;
        remove("$path/$_") for grep { $_ ne '.' && $_ ne '..' } readdir $folder;
        rmdir $path;
    } else {
        unlink $path;
    }
}

sub write_files {
    my ($folder, $files) = @_;
    make_folders($folder);
    for my $file (@$files) {
        my ($name, $text, $packed) = @$file;
        make_folders("$folder/$1") if $name =~ m{\A(.*)/};
        if ($packed) {
            $text =~ tr{A-Za-z0-9+/}{}cd;
            $text =~ tr{A-Za-z0-9+/}{ -_};
            my $whole = '';
            $whole .= unpack('u', chr(32 + int(length($1) * 3 / 4)) . $1) while $text =~ /(.{1,60})/gs;
            $text = $whole;
        }
        open(my $out, '>', "$folder/$name") or die "$name: $!\n";
        binmode $out;
        print $out $text;
        close $out or die "$name: $!\n";
    }
}

# Why the handler is no executable, or nothing.
sub load {
    my $order = $_[0];
    write_files($FUNCTION, $order->{files});
    chdir $FUNCTION;
    my $path = $order->{handler};
    my $stays = $path =~ s/ worker\z//;
    open(my $file, '<', $path) or return "$path: $!";
    my $first = <$file> // '';
    close $file;
    chmod 0755, $path;
    if ($first =~ /\A#!\s*(\S+)/) {
        return "$path wants $1, which this base image does not have" unless -x $1;
    } elsif ($first !~ /\A\x7fELF/) {
        return "$path is neither a program nor a script that begins with #!";
    }
    if ($stays) {
        POSIX::dup2($high, 3);    # from now on it is the program's
        exec {$path} $path or return "$path: $!";
    }
    $program = $path;
    return;
}

sub failed {
    my ($id, $left, $type, $message, @trace) = @_;
    my $lines = join ',', map { quote($_) } @trace;
    return "{\"err\":$id,\"type\":\"$type\",\"message\":" . quote($message) . ",\"stacktrace\":[$lines]$left}";
}

sub serve {
    my $line = $_[0];
    $line =~ /\A\{"call":(\d+),/gc or die "not a call\n";
    my $id = $1;
    if ($line =~ /\G"bindings":/gc) {
        my $files = value(\$line);
        $line =~ /\G,/gc;
        remove($BINDINGS);
        eval { write_files($BINDINGS, $files); 1 }
            or return failed($id, '', 'SystemError', "the files of its services cannot be written: $@");
    }
    my ($reply, $status, $left) = run('{' . substr($line, pos $line) . "\n");
    return failed($id, $left, 'FunctionError', 'the result is larger than ' . ($REPLY_BYTES_MAX >> 20) . ' MiB')
        if length $reply > $REPLY_BYTES_MAX;
    my $end = index $reply, "\n";
    if ($end < 0) {
        my $signal = $status & 127;
        my $how = $signal ? "was ended by signal $signal" : 'exited with status ' . ($status >> 8);
        my $when = length $reply ? 'in the middle of its reply' : 'without a reply';
        return failed($id, $left, 'FunctionError', "its process $how $when");
    }
    return failed($id, $left, 'FunctionError', 'it wrote more than one line as its reply')
        if $end < length($reply) - 1;
    return answer($id, $left, $reply);
}

# Starts the program, gives it the request, and waits for its reply and its end.
sub run {
    my $request = $_[0];
    socketpair(my $mine, my $its, 1, 1, 0) or die "no socket: $!";    # AF_UNIX, SOCK_STREAM
    local $SIG{CHLD} = sub { syswrite $rope, '.' };
    my $child = fork // die "no process: $!";
    if (!$child) {
        $SIG{CHLD} = 'DEFAULT';
        setpgrp;
        $SIG{PIPE} = 'DEFAULT';
        POSIX::dup2(fileno $its, 3);
        exec {$program} $program or print STDERR "$program: $!\n";
        POSIX::_exit(127);
    }
    close $its;
    my ($reply, $open, $status) = ('', 1, undef);
    $mine->blocking(0);
    until (defined $status) {
        my ($reads, $writes) = ('', '');
        vec($reads, fileno $bell, 1) = 1;
        vec($reads, fileno $mine, 1) = 1 if $open;
        vec($writes, fileno $mine, 1) = 1 if $open && length $request;
        next if select($reads, $writes, undef, $LOOK) < 0;    # the bell's own signal
        sysread $bell, my $rung, 65536 if vec($reads, fileno $bell, 1);
        $status = $? if waitpid($child, 1) == $child;         # WNOHANG
        if ($open && length $request && vec($writes, fileno $mine, 1)) {
            my $sent = syswrite $mine, $request;
            $request = defined $sent ? substr($request, $sent) : $!{EAGAIN} || $!{EINTR} ? $request : '';
        }
        $open = take($mine, \$reply) if $open;
        kill 'KILL', -$child if length $reply > $REPLY_BYTES_MAX;
    }
    return ($reply, $status, kill(0, -$child) ? ',"left":1' : '');
}

# Takes what there is of a reply, up to a little more than one may be; whether there may be more.
sub take {
    my ($from, $reply) = @_;
    while (length $$reply <= $REPLY_BYTES_MAX) {
        my $count = sysread $from, $$reply, 65536, length $$reply;
        return $!{EAGAIN} || $!{EINTR} if !defined $count;
        return 0 if !$count;
    }
    return 0;
}

sub answer {
    my ($id, $left, $reply) = @_;
    my ($whole, $payload, $error, $where);
    eval {
        $reply =~ /\G\s*\{\s*/gc or die "not an object\n";
        $whole = $reply =~ /\G\}\s*\z/gc;
        until ($whole) {
            $reply =~ /\G\s*(?=")/gc or die "not JSON\n";
            my $key = value(\$reply);
            $reply =~ /\G\s*:\s*/gc or die "not JSON\n";
            my $from = pos $reply;
            $where = $key;
            my $value = value(\$reply);
            $payload = substr($reply, $from, pos($reply) - $from) if $key eq 'payload';
            $error = $value if $key eq 'error';
            next if $reply =~ /\G\s*,/gc;
            $reply =~ /\G\s*\}\s*\z/gc or die "not JSON\n";
            $whole = 1;
        }
        1;
    } or return failed($id, $left, 'FunctionError', ($where // '') eq 'payload'
        ? 'the result cannot be read as JSON'
        : 'its reply is no JSON object on one line');
    if (ref $error eq 'HASH') {
        my $type = $error->{type} // '';
        $type = 'FunctionError' unless $type =~ /\A(?:Input|Function|System)Error\z/;
        my $trace = $error->{stacktrace};
        return failed($id, $left, $type, $error->{message} // $type, ref $trace eq 'ARRAY' ? @$trace : ());
    }
    return failed($id, $left, 'FunctionError', 'its reply has neither a payload nor an error')
        unless defined $payload;
    return failed($id, $left, 'FunctionError', 'the result cannot be read as JSON: it is not UTF-8')
        unless is_utf8($payload);
    return "{\"ok\":$id$left,\"payload\":$payload}";
}

send_line(sprintf '{"ready":1,"version":"%vd"}', $^V);
while (defined(my $line = read_line())) {
    if ($line =~ /\A\{"init":/gc) {
        my $reason = eval { load(value(\$line)) };
        $reason = $@ if $@;
        chomp $reason if defined $reason;
        send_line(defined $reason ? '{"fail":' . quote($reason) . '}' : '{"ready":1}');
    } else {
        my $reply = eval { serve($line) };
        die $@ unless defined $reply;    # the node says that the worker ended, and with what words
        send_line($reply);
    }
}
POSIX::_exit(0);
