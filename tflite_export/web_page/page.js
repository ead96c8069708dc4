"use strict";
(function () {
  const MOST_ROWS = 10;
  const network = JSON.parse(document.getElementById("network").textContent);
  const status = document.getElementById("status");
  let model = null;
  let current = Promise.resolve();

  function say(text, wrong) {
    status.textContent = text;
    status.className = wrong ? "wrong" : "";
  }

  function make(kind, parent, options) {
    const element = Object.assign(document.createElement(kind), options || {});
    if (parent) parent.append(element);
    return element;
  }

  function bytesOf(text) {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  }

  const ARRAYS = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };

  // Real values as the network stores them, and back.
  function stored(end, values) {
    const array = new ARRAYS[end.type](end.elements);
    if (values.length !== end.elements) {
      throw new Error(`${end.name} takes ${end.elements} numbers, not ${values.length}`);
    }
    for (let i = 0; i < array.length; ++i) {
      let value = values[i];
      if (end.scale) {
        const steps = value / end.scale;
        const down = Math.floor(steps);
        // To the nearest, of two as near to the even one.
        const rest = steps - down;
        value = end.zero_point + (rest > 0.5 || (rest === 0.5 && down % 2) ? down + 1 : down);
        value = Math.min(255, Math.max(0, value));
      }
      array[i] = value;
    }
    return array;
  }

  function real(end, array) {
    if (!end.scale) return Array.from(array);
    return Array.from(array, (value) => Math.fround((value - end.zero_point) * end.scale));
  }

  async function run(inputs) {
    const tensors = {};
    try {
      network.inputs.forEach((end, i) => {
        tensors[end.name] = new LiteRtJs.Tensor(stored(end, inputs[i]), end.shape);
      });
      const found = await model.run(tensors);
      return network.outputs.map((end) => {
        const array = found[end.name].toTypedArray();
        found[end.name].delete();
        return real(end, array);
      });
    } finally {
      Object.values(tensors).forEach((tensor) => tensor.delete());
    }
  }

  // One sample after the other: the numbers of every input, in the order of `network.inputs`.
  function answer(inputs) {
    const mine = current.then(() => run(inputs));
    current = mine.catch(() => undefined);
    return mine;
  }

  function decision(end, values) {
    if (end.decision === "above_half") return values[0] > 0.5 ? 1 : 0;
    if (end.decision !== "largest") return -1;
    return values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
  }

  function show(answers) {
    const place = document.getElementById("outputs");
    place.replaceChildren();
    network.outputs.forEach((end, number) => {
      let values = answers[number];
      const decided = decision(end, values);
      if (network.outputs.length > 1) make("h2", place, { textContent: end.name });
      if (end.decision === "above_half") values = [1 - values[0], values[0]];
      const low = Math.min(0, ...values);
      const most = Math.max(...values);
      // Bars of probabilities end at 1, others at the largest.
      const high = low === 0 && most <= 1 ? 1 : Math.max(most, low + 1e-12);
      let order = values.map((_, i) => i);
      if (order.length > MOST_ROWS) {
        order.sort((a, b) => values[b] - values[a]);
        order = order.slice(0, MOST_ROWS);
      }
      for (const i of order) {
        const row = make("div", place, { className: i === decided ? "row decided" : "row" });
        make("span", row, { className: "label", textContent: end.labels[i] ?? String(i) });
        const bar = make("span", make("div", row, { className: "bar" }));
        bar.style.width = `${(100 * (values[i] - low)) / (high - low)}%`;
        make("span", row, { className: "score", textContent: values[i].toPrecision(3) });
      }
      if (values.length > MOST_ROWS) {
        make("p", place, { className: "about",
          textContent: `the ${MOST_ROWS} largest of ${values.length}` });
      }
    });
  }

  let waiting = false;
  const given = network.inputs.map(() => null);

  // Answers what is given now; what comes while it works is answered once, afterwards.
  async function refresh() {
    if (waiting || given.some((one) => one === null)) return;
    waiting = true;
    await current;
    waiting = false;
    try {
      const begun = performance.now();
      const values = given.map((one) => one());
      show(await answer(values));
      const time = (performance.now() - begun).toFixed(1);
      document.getElementById("time").textContent = `answered in ${time} ms, on this device`;
      say("", false);
    } catch (error) {
      say(error.message, true);
    }
  }

  // A picture: drawn, from a file or from the camera.
  function picture(end, number, place) {
    const [, height, width, channels] = end.shape;
    const size = 280;
    const canvas = make("canvas", place, { width: size, height: (size * height) / width });
    canvas.setAttribute("aria-label", "draw here");
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    const small = make("canvas", null, { width, height });
    const smallPen = small.getContext("2d", { willReadFrequently: true });
    const video = make("video", place, { playsInline: true, muted: true });
    let stream = null;

    make("p", place, { className: "about", textContent: "Draw, open a picture, or use the camera." });
    const tools = make("div", place, { className: "tools" });
    const clearButton = make("button", tools, { type: "button", textContent: "Clear" });
    const cameraButton = make("button", tools, { type: "button", textContent: "Camera" });
    const file = make("input", tools, { type: "file", accept: "image/*" });
    file.setAttribute("aria-label", "picture from a file");
    const inverted = choice("White on black", "Black on white");
    const scale = choice(...Object.values(network.pixels));
    scale.selectedIndex = Object.keys(network.pixels).indexOf(end.pixels);

    function choice(...names) {
      const select = make("select", tools);
      names.forEach((name) => make("option", select, { textContent: name }));
      return select;
    }

    function clear() {
      stop();
      pen.fillStyle = inverted.selectedIndex ? "#fff" : "#000";
      pen.fillRect(0, 0, canvas.width, canvas.height);
      refresh();
    }

    function place_(image, w, h) {
      const side = Math.max(canvas.width / w, canvas.height / h);
      pen.drawImage(image, (canvas.width - side * w) / 2, (canvas.height - side * h) / 2,
        side * w, side * h);
      refresh();
    }

    function stop() {
      if (stream) stream.getTracks().forEach((track) => track.stop());
      stream = null;
      cameraButton.textContent = "Camera";
    }

    given[number] = () => {
      smallPen.imageSmoothingQuality = "high";
      smallPen.drawImage(canvas, 0, 0, width, height);
      const pixels = smallPen.getImageData(0, 0, width, height).data;
      const values = new Float32Array(end.elements);
      const kind = Object.keys(network.pixels)[scale.selectedIndex];
      for (let i = 0; i < width * height; ++i) {
        const rgb = [pixels[4 * i], pixels[4 * i + 1], pixels[4 * i + 2]];
        const all = channels === 1
          ? [0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]] : rgb;
        all.forEach((value, c) => { values[channels * i + c] = prepared(kind, value, c); });
      }
      return values;
    };

    function prepared(kind, value, channel) {
      if (kind === "file") {
        const { mean, std } = end.normalization;
        return (value - mean[channel % mean.length]) / std[channel % std.length];
      }
      return kind === "unit" ? value / 255 : kind === "signed" ? value / 127.5 - 1 : value;
    }

    let last = null;
    function point(event) {
      const box = canvas.getBoundingClientRect();
      return [((event.clientX - box.left) * canvas.width) / box.width,
        ((event.clientY - box.top) * canvas.height) / box.height];
    }
    canvas.addEventListener("pointerdown", (event) => {
      stop();
      canvas.setPointerCapture(event.pointerId);
      last = point(event);
      stroke(last);
    });
    canvas.addEventListener("pointermove", (event) => { if (last) stroke(point(event)); });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, () => { last = null; });
    }
    function stroke(to) {
      pen.strokeStyle = inverted.selectedIndex ? "#000" : "#fff";
      pen.lineWidth = canvas.width / 12;
      pen.lineCap = "round";
      pen.beginPath();
      pen.moveTo(...last);
      pen.lineTo(...to);
      pen.stroke();
      last = to;
      refresh();
    }

    file.addEventListener("change", async () => {
      if (!file.files.length) return;
      try {
        const image = await createImageBitmap(file.files[0]);
        stop();
        place_(image, image.width, image.height);
      } catch {
        say("that file is no picture that this browser reads", true);
      }
    });
    cameraButton.addEventListener("click", async () => {
      if (stream) return stop();
      try {
        stream = await navigator.mediaDevices.getUserMedia(
          { video: { facingMode: "environment" } });
        video.srcObject = stream;
        await video.play();
        cameraButton.textContent = "Stop";
        requestAnimationFrame(frame);
      } catch (error) {
        stop();
        say(`no camera: ${error.message}`, true);
      }
    });
    function frame() {
      if (!stream) return;
      if (video.videoWidth) place_(video, video.videoWidth, video.videoHeight);
      requestAnimationFrame(frame);
    }
    clearButton.addEventListener("click", clear);
    inverted.addEventListener("change", clear);
    scale.addEventListener("change", refresh);
    clear();
  }

  // Numbers: pasted, or from a file of text.
  function numbers(end, number, place) {
    const shape = end.shape.slice(1).join(" × ") || "1";
    make("p", place, { className: "about",
      textContent: `${end.elements} numbers (${shape}), with blanks, commas or line ends between` });
    const text = make("textarea", place, { value: new Array(end.elements).fill(0).join(" ") });
    text.setAttribute("aria-label", end.name);
    const tools = make("div", place, { className: "tools" });
    const file = make("input", tools, { type: "file" });
    file.setAttribute("aria-label", "numbers from a file");
    given[number] = () => {
      const words = text.value.split(/[\s,;[\]]+/).filter(Boolean);
      const values = words.map(Number);
      const wrong = values.findIndex(Number.isNaN);
      if (wrong >= 0) throw new Error(`${end.name}: ${JSON.stringify(words[wrong])} is no number`);
      return values;
    };
    text.addEventListener("input", refresh);
    file.addEventListener("change", async () => {
      if (!file.files.length) return;
      text.value = await file.files[0].text();
      refresh();
    });
  }

  async function begin() {
    if (!window.LiteRtJs) throw new Error("litert.js is not beside this page: keep them together");
    await LiteRtJs.loadLiteRt("litert.js");
    model = await LiteRtJs.loadAndCompile(bytesOf(network.file), { accelerator: "wasm" });
    const place = document.getElementById("inputs");
    network.inputs.forEach((end, number) => {
      const section = make("div", place);
      if (network.inputs.length > 1) make("h2", section, { textContent: end.name });
      const channels = end.shape[3];
      const isPicture = end.shape.length === 4 && end.shape[0] === 1
        && (channels === 1 || channels === 3) && end.shape[1] > 3 && end.shape[2] > 3;
      (isPicture ? picture : numbers)(end, number, section);
    });
    document.getElementById("page").hidden = false;
    say("", false);
    refresh();
  }

  // For programs that drive the page: wait for `ready`, then call `answer`.
  window.network = {
    answer,
    ready: begin().catch((error) => {
      say(`The network cannot be run: ${error.message}`, true);
      throw error;
    }),
  };
  window.network.ready.catch(() => undefined);
})();
