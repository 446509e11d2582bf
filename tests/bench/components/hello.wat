;; Greets: {"name":"Jon","place":"Winterfell"} → {"myField":"Hello, Jon from Winterfell"}.
;; It knows of JSON only what strings without escapes take.
(component
  (core module $module
    (memory (export "memory") 2)
    (data (i32.const 64) "\"name\":")
    (data (i32.const 80) "\"place\":")
    (data (i32.const 96) "{\"myField\":\"Hello, ")
    (data (i32.const 128) " from ")
    (data (i32.const 144) "\"}")
    (data (i32.const 160) "name and place must be strings")
    ;; Where the answer ends, which begins at 256.
    (global $end (mut i32) (i32.const 256))
    (global $free (mut i32) (i32.const 8192))
    ;; What an instance is given is gone with it, after one call.
    (func (export "realloc") (param $old i32) (param $was i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get $size)))
      (local.get $at))

    (func $add (param $from i32) (param $length i32)
      (memory.copy (global.get $end) (local.get $from) (local.get $length))
      (global.set $end (i32.add (global.get $end) (local.get $length))))

    (func $begins (param $text i32) (param $with i32) (param $length i32) (result i32)
      (local $i i32)
      (loop $next
        (if (i32.eq (local.get $i) (local.get $length)) (then (return (i32.const 1))))
        (if (i32.ne
              (i32.load8_u (i32.add (local.get $text) (local.get $i)))
              (i32.load8_u (i32.add (local.get $with) (local.get $i))))
          (then (return (i32.const 0))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next))
      (unreachable))

    ;; Adds the string that follows a key, and says whether there is one.
    (func $member (param $text i32) (param $until i32) (param $key i32) (param $length i32) (result i32)
      (local $from i32)
      (loop $next
        (if (i32.gt_u (i32.add (local.get $text) (local.get $length)) (local.get $until))
          (then (return (i32.const 0))))
        (if (i32.eqz (call $begins (local.get $text) (local.get $key) (local.get $length)))
          (then
            (local.set $text (i32.add (local.get $text) (i32.const 1)))
            (br $next))))
      (local.set $text (i32.add (local.get $text) (local.get $length)))
      (loop $blank
        (if (i32.eq (i32.load8_u (local.get $text)) (i32.const 0x20))
          (then
            (local.set $text (i32.add (local.get $text) (i32.const 1)))
            (br $blank))))
      (if (i32.ne (i32.load8_u (local.get $text)) (i32.const 0x22)) (then (return (i32.const 0))))
      (local.set $from (i32.add (local.get $text) (i32.const 1)))
      (loop $more
        (local.set $text (i32.add (local.get $text) (i32.const 1)))
        (if (i32.ge_u (local.get $text) (local.get $until)) (then (return (i32.const 0))))
        (br_if $more (i32.ne (i32.load8_u (local.get $text)) (i32.const 0x22))))
      (call $add (local.get $from) (i32.sub (local.get $text) (local.get $from)))
      (i32.const 1))

    (func (export "handle")
      (param $context i32) (param $context-length i32) (param $payload i32) (param $length i32)
      (result i32)
      (local $until i32)
      (local.set $until (i32.add (local.get $payload) (local.get $length)))
      (block $wrong
        (br_if $wrong (i32.gt_u (local.get $length) (i32.const 4096)))
        (call $add (i32.const 96) (i32.const 19))
        (br_if $wrong (i32.eqz
          (call $member (local.get $payload) (local.get $until) (i32.const 64) (i32.const 7))))
        (call $add (i32.const 128) (i32.const 6))
        (br_if $wrong (i32.eqz
          (call $member (local.get $payload) (local.get $until) (i32.const 80) (i32.const 8))))
        (call $add (i32.const 144) (i32.const 2))
        (i32.store (i32.const 4) (i32.const 256))
        (i32.store (i32.const 8) (i32.sub (global.get $end) (i32.const 256)))
        (return (i32.const 0)))
      ;; An input error without a stack trace.
      (i32.store8 (i32.const 0) (i32.const 1))
      (i32.store8 (i32.const 4) (i32.const 0))
      (i32.store (i32.const 8) (i32.const 160))
      (i32.store (i32.const 12) (i32.const 30))
      (i32.store (i32.const 16) (i32.const 0))
      (i32.store (i32.const 20) (i32.const 0))
      (i32.const 0)))
  (core instance $main (instantiate $module))
  (alias core export $main "memory" (core memory $linear))
  (alias core export $main "realloc" (core func $realloc))

  (type $kind' (enum "input" "function" "system"))
  (export $kind "kind" (type $kind'))
  (type $error' (record (field "kind" $kind) (field "message" string) (field "stacktrace" (list string))))
  (export $error "error" (type $error'))
  (func $handle (param "context" string) (param "payload" string) (result (result string (error $error)))
    (canon lift (core func $main "handle") (memory $linear) (realloc $realloc)))
  (export "handle" (func $handle)))
