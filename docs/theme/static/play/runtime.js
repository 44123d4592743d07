/* Policies from ONNX models, run by onnxruntime-web. It lies beside this file, and is loaded once
   the page is there. From disk no page may fetch a file, so all that is needed is in scripts. */
globalThis.jaxpgRuntime = (() => {
  const folder = document.currentScript.src
  let loaded = null

  const decode = base64 => Uint8Array.from(atob(base64), letter => letter.charCodeAt(0))

  const addScript = url => new Promise((resolve, reject) => {
    const script = document.createElement("script")
    script.src = url
    script.onload = resolve
    script.onerror = () => reject(new Error("onnxruntime-web is not there"))
    document.head.append(script)
  })

  /* onnxruntime-web, on one thread. Rejects where the site was built without it. */
  async function load() {
    await addScript(new URL("onnxruntime.js", folder))
    const parts = globalThis.jaxpgRuntimeParts
    if (!parts) throw new Error("This copy of the site was built without onnxruntime-web.")
    const packed = new Blob([decode(parts.wasm)]).stream()
    const unpacked = packed.pipeThrough(new DecompressionStream("gzip"))
    const wasm = await new Response(unpacked).arrayBuffer()
    const module = new Blob([parts.module], { type: "text/javascript" })
    ort.env.wasm.numThreads = 1 // several need headers that only a server can send
    ort.env.wasm.wasmBinary = wasm
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(module) }
    globalThis.jaxpgRuntimeParts = null // some MB
    return ort
  }

  /* The policy of a model in base64: a function of {name of an input: rows of numbers} that gives
     an action for each row. */
  async function loadPolicy(model) {
    const runtime = await (loaded ??= load())
    const session = await runtime.InferenceSession.create(
      decode(model), { executionProviders: ["wasm"] })
    return async rows => {
      const feeds = {}
      for (const [name, values] of Object.entries(rows)) {
        const shape = [values.length, values[0].length]
        feeds[name] = new runtime.Tensor("float32", Float32Array.from(values.flat()), shape)
      }
      const { action } = await session.run(feeds, ["action"])
      return Array.from(action.data, Number)
    }
  }

  return { loadPolicy }
})()
