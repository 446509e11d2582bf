;; A function by hand. The first byte of its payload, a digit, says what it does.
(component
  (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
  (alias export $errors "error" (type $io-error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $stream (sub resource)))
    (alias outer 1 $io-error (type $io-error'))
    (type $stream-error' (variant (case "last-operation-failed" (own $io-error')) (case "closed")))
    (export "stream-error" (type $stream-error (eq $stream-error')))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $stream)) (param "contents" (list u8))
        (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $stream))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $stream (type $stream'))
    (export "output-stream" (type $stream-here (eq $stream')))
    (export "get-stdout" (func (result (own $stream-here))))))
  (import "wasi:filesystem/types@0.2.0" (instance $files (export "descriptor" (type (sub resource)))))
  (alias export $files "descriptor" (type $descriptor))
  (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
    (alias outer 1 $descriptor (type $descriptor'))
    (export "descriptor" (type $descriptor-here (eq $descriptor')))
    (export "get-directories" (func (result (list (tuple (own $descriptor-here) string)))))))

  (core module $memory-module
    (memory (export "memory") 2)
    (global $free (mut i32) (i32.const 4096))
    (func (export "realloc") (param $old i32) (param $was i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at
        (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get $size)))
      (block $fits
        (br_if $fits (i32.lt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
        (drop (memory.grow
          (i32.add (i32.div_u (local.get $size) (i32.const 65536)) (i32.const 1)))))
      (local.get $at)))
  (core instance $memory (instantiate $memory-module))
  (alias core export $memory "memory" (core memory $linear))
  (alias core export $memory "realloc" (core func $realloc))

  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower
    (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory $linear) (realloc $realloc)))
  (core func $get-directories (canon lower (func $preopens "get-directories")
    (memory $linear) (realloc $realloc)))

  (core module $main-module
    (import "memory" "memory" (memory 2))
    (import "host" "get-stdout" (func $get-stdout (result i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (import "host" "get-directories" (func $get-directories (param i32)))
    (data (i32.const 64) "bad value")
    (data (i32.const 80) "at line 3")
    (data (i32.const 96) "no JSON")
    (data (i32.const 112) "hello from inside\0a")
    (data (i32.const 144) "[\0a1\0a]")
    (global $calls (mut i32) (i32.const 0))

    (func $ok (param $at i32) (param $length i32) (result i32)
      (i32.store8 (i32.const 0) (i32.const 0))
      (i32.store (i32.const 4) (local.get $at))
      (i32.store (i32.const 8) (local.get $length))
      (i32.const 0))
    (func $error (param $kind i32) (result i32)
      (i32.store8 (i32.const 0) (i32.const 1))
      (i32.store8 (i32.const 4) (local.get $kind))
      (i32.store (i32.const 8) (i32.const 64))
      (i32.store (i32.const 12) (i32.const 9))
      (i32.store (i32.const 16) (i32.const 32))
      (i32.store (i32.const 20) (i32.const 1))
      (i32.store (i32.const 32) (i32.const 80))
      (i32.store (i32.const 36) (i32.const 9))
      (i32.const 0))
    (func $digit (param $number i32) (result i32)
      (i32.store8 (i32.const 48) (i32.add (local.get $number) (i32.const 48)))
      (call $ok (i32.const 48) (i32.const 1)))
    (func $fail (unreachable))
    (func $spin (loop $again (br $again)))

    (func (export "handle")
      (param $context i32) (param $context-length i32) (param $payload i32) (param $length i32)
      (result i32)
      (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
      (block $other (block $nine (block $eight (block $seven (block $six (block $five
      (block $four (block $three (block $two (block $one (block $zero
        (br_table $zero $one $two $three $four $five $six $seven $eight $nine $other
          (i32.sub (i32.load8_u (local.get $payload)) (i32.const 48))))
        ;; 0: its context
        (return (call $ok (local.get $context) (local.get $context-length))))
        ;; 1, 2: errors
        (return (call $error (i32.const 0))))
        (return (call $error (i32.const 1))))
        ;; 3: goes on for ever
        (call $spin) (unreachable))
        ;; 4: takes memory for as long as it gets any
        (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
        (call $fail) (unreachable))
        ;; 5: traps
        (call $fail) (unreachable))
        ;; 6: how often this instance was called
        (return (call $digit (global.get $calls))))
        ;; 7: no JSON
        (return (call $ok (i32.const 96) (i32.const 7))))
        ;; 8: prints
        (call $write (call $get-stdout) (i32.const 112) (i32.const 18) (i32.const 200))
        (return (call $ok (i32.const 144) (i32.const 5))))
        ;; 9: how many folders of the host it sees
        (call $get-directories (i32.const 200))
        (return (call $digit (i32.load (i32.const 204)))))
      ;; anything else: its payload
      (call $ok (local.get $payload) (local.get $length))))
  (core instance $main (instantiate $main-module
    (with "memory" (instance $memory))
    (with "host" (instance
      (export "get-stdout" (func $get-stdout))
      (export "write" (func $write))
      (export "get-directories" (func $get-directories))))))

  (type $kind' (enum "input" "function" "system"))
  (export $kind "kind" (type $kind'))
  (type $error' (record (field "kind" $kind) (field "message" string) (field "stacktrace" (list string))))
  (export $error "error" (type $error'))
  (func $handle (param "context" string) (param "payload" string) (result (result string (error $error)))
    (canon lift (core func $main "handle") (memory $linear) (realloc $realloc)))
  (export "handle" (func $handle)))
