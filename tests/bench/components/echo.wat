;; Answers with its payload.
(component
  (core module $module
    (memory (export "memory") 2)
    (global $free (mut i32) (i32.const 1024))
    ;; What an instance is given is gone with it, after one call.
    (func (export "realloc") (param $old i32) (param $was i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get $size)))
      (local.get $at))
    (func (export "handle")
      (param $context i32) (param $context-length i32) (param $payload i32) (param $length i32)
      (result i32)
      (i32.store (i32.const 4) (local.get $payload))
      (i32.store (i32.const 8) (local.get $length))
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
