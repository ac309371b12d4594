// ---- the camera ------------------------------------------------------------------------------------------------------

function multiply(a, b) {
  const out = new Float32Array(16); // column-major
  for (let column = 0; column < 4; column++) for (let row = 0; row < 4; row++) {
    for (let k = 0; k < 4; k++) out[4 * column + row] += a[4 * k + row] * b[4 * column + k];
  }
  return out;
}

function turned(rotation, angleX, angleY) {
  const [cx, sx, cy, sy] = [Math.cos(angleX), Math.sin(angleX), Math.cos(angleY), Math.sin(angleY)];
  const aboutX = [1, 0, 0, 0, 0, cx, sx, 0, 0, -sx, cx, 0, 0, 0, 0, 1];
  const aboutY = [cy, 0, -sy, 0, 0, 1, 0, 0, sy, 0, cy, 0, 0, 0, 0, 1];
  return multiply(multiply(aboutX, aboutY), rotation);
}

const FIELD = Math.tan((15 * Math.PI) / 180);
const camera = {};

function resetCamera() {
  const rotation = turned([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1], 0.35, -0.45);
  Object.assign(camera, { rotation, focus: scene.focus.slice(), distance: (1.12 * scene.reach) / FIELD });
}

function matrices(width, height) {
  const { rotation, focus, distance } = camera;
  const away = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, ...focus.map((value) => -value), 1];
  const view = multiply(rotation, away);
  view[14] -= distance;
  const panel = width > 700 ? element("panel").offsetWidth + 16 : 0; // the picture is centred beside the panel
  const aside = -panel / width, fit = Math.min(1, (width - panel) / height), near = distance / 50, far = distance * 4 + 100;
  const projection = [
    (FIELD ** -1 * fit * height) / width, 0, 0, 0, 0, FIELD ** -1 * fit, 0, 0,
    aside, 0, (far + near) / (near - far), -1, 0, 0, (2 * far * near) / (near - far), 0,
  ];
  return { view, projection };
}

// ---- WebGL -----------------------------------------------------------------------------------------------------------

const canvas = element("view");
const gl = canvas.getContext("webgl2", { antialias: true, alpha: false });
if (!gl) {
  element("subtitle").textContent = "This page needs a browser with WebGL 2.";
  throw new Error("no WebGL 2");
}

const PAPER = [0.984, 0.984, 0.98];
const VERTEX = `#version 300 es
in vec3 position, normal, color;
uniform mat4 view, projection;
out vec3 place, facing, tint;
void main() {
  vec4 eye = view * vec4(position, 1.0);
  place = eye.xyz; facing = mat3(view) * normal; tint = color;
  gl_Position = projection * eye;
}`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec3 place, facing, tint;
uniform float opacity, lit, distance, reach;
out vec4 pixel;
void main() {
  vec3 toEye = normalize(-place), n = normalize(facing);
  if (dot(n, toEye) < 0.0) n = -n;
  vec3 light = normalize(vec3(0.35, 0.65, 0.8));
  float grazing = 1.0 - max(dot(n, toEye), 0.0);
  float shine = pow(max(dot(n, normalize(light + toEye)), 0.0), 48.0);
  vec3 shaded = tint * (0.58 + 0.5 * max(dot(n, light), 0.0)) + 0.22 * shine;
  float alpha = opacity < 1.0 ? clamp(opacity * (0.5 + 0.8 * grazing * grazing) + 0.15 * shine, 0.0, 1.0) : 1.0;
  float haze = 0.75 * smoothstep(distance + 0.3 * reach, distance + 2.2 * reach, -place.z);
  pixel = lit > 0.5 ? vec4(mix(shaded, vec3(PAPER), haze), alpha) : vec4(tint, opacity);
}`.replace("PAPER", PAPER.join(", "));

function shader(kind, text) {
  const part = gl.createShader(kind);
  gl.shaderSource(part, text);
  gl.compileShader(part);
  if (!gl.getShaderParameter(part, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(part));
  return part;
}

const program = gl.createProgram();
gl.attachShader(program, shader(gl.VERTEX_SHADER, VERTEX));
gl.attachShader(program, shader(gl.FRAGMENT_SHADER, FRAGMENT));
gl.linkProgram(program);
gl.useProgram(program);
const attribute = (name) => gl.getAttribLocation(program, name);
const uniform = (name) => gl.getUniformLocation(program, name);

function upload(mesh, color) {
  const array = gl.createVertexArray(), buffers = [];
  gl.bindVertexArray(array);
  for (const [name, values] of Object.entries(mesh)) {
    const target = name === "index" ? gl.ELEMENT_ARRAY_BUFFER : gl.ARRAY_BUFFER;
    const buffer = gl.createBuffer();
    buffers.push(buffer);
    gl.bindBuffer(target, buffer);
    gl.bufferData(target, values, gl.STATIC_DRAW);
    if (name === "index") continue;
    gl.enableVertexAttribArray(attribute(name));
    gl.vertexAttribPointer(attribute(name), 3, gl.FLOAT, false, 0, 0);
  }
  return { array, buffers, color, count: mesh.index.length };
}

function drop(mesh) {
  mesh.buffers.forEach((buffer) => gl.deleteBuffer(buffer));
  gl.deleteVertexArray(mesh.array);
}

function drawMesh(mesh, kind, opacity, lit) {
  gl.bindVertexArray(mesh.array);
  if (mesh.color) gl.vertexAttrib3f(attribute("color"), ...mesh.color);
  gl.uniform1f(uniform("opacity"), opacity);
  gl.uniform1f(uniform("lit"), lit);
  gl.drawElements(kind, mesh.count, gl.UNSIGNED_INT, 0);
}

// ---- the page --------------------------------------------------------------------------------------------------------

const box = upload(boxMesh(), [0.72, 0.74, 0.76]);
const sticks = scene.sticks.map((entry) => upload(stickMesh(entry), null));
const channels = scene.channels.map((channel) => ({ ...channel, ...padded(channel), shown: !channel.receptor }));
const highest = Math.max(0.1, ...channels.map((channel) => channel.peak));
let stale = true;

function draw() {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  }
  const level = Number(element("level").value), opacity = Number(element("opacity").value);
  for (const channel of stale ? channels : []) {
    if (channel.mesh) drop(channel.mesh);
    channel.mesh = channel.shown && level < channel.peak ? upload(surface(channel, level), rgb(channel.color)) : null;
  }
  stale = false;
  element("level-out").textContent = level.toFixed(2);
  element("opacity-out").textContent = opacity.toFixed(2);

  const { view, projection } = matrices(width, height);
  gl.viewport(0, 0, canvas.width, canvas.height);
  gl.clearColor(...PAPER, 1);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  gl.enable(gl.DEPTH_TEST);
  gl.uniformMatrix4fv(uniform("view"), false, view);
  gl.uniformMatrix4fv(uniform("projection"), false, projection);
  gl.uniform1f(uniform("distance"), camera.distance);
  gl.uniform1f(uniform("reach"), scene.reach);
  gl.disable(gl.BLEND);
  gl.disable(gl.CULL_FACE);
  gl.depthMask(true);
  if (element("show-sticks").checked) drawMesh(sticks[0], gl.TRIANGLES, 1, 1);
  if (sticks.length > 1 && element("show-receptor").checked) drawMesh(sticks[1], gl.TRIANGLES, 1, 1);
  if (element("show-box").checked) drawMesh(box, gl.LINES, 1, 0);

  const surfaces = channels.filter((channel) => channel.mesh);
  gl.enable(gl.CULL_FACE);
  if (opacity < 1) {
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    gl.depthMask(false);
    gl.cullFace(gl.FRONT);
    surfaces.forEach((channel) => drawMesh(channel.mesh, gl.TRIANGLES, opacity, 1));
  }
  gl.cullFace(gl.BACK);
  surfaces.forEach((channel) => drawMesh(channel.mesh, gl.TRIANGLES, opacity, 1));
  gl.depthMask(true);
  drawLabels(multiply(projection, view), width, height);
}

function drawLabels(matrix, width, height) {
  const labels = element("labels");
  labels.replaceChildren();
  if (!element("show-box").checked) return;
  const low = scene.extent.map((range) => range[0]);
  for (let axis = 0; axis < 3; axis++) {
    const [first, last] = scene.extent[axis];
    const every = last - first > 12 ? 5 : 1;
    for (let tick = Math.ceil((first + 1) / every) * every; tick <= last; tick += every) {
      const place = low.map((edge) => edge - 0.6);
      place[axis] = tick;
      const clip = [0, 1, 2, 3].map((row) => place.reduce((sum, v, k) => sum + matrix[4 * k + row] * v, matrix[12 + row]));
      if (clip[3] <= 0) continue;
      const span = document.createElement("span");
      span.textContent = `${"xyz"[axis]} ${tick}`;
      span.style.left = `${(0.5 + (0.5 * clip[0]) / clip[3]) * width}px`;
      span.style.top = `${(0.5 - (0.5 * clip[1]) / clip[3]) * height}px`;
      labels.append(span);
    }
  }
}

let waiting = false;
function redraw(rebuild) {
  stale ||= rebuild === true;
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
  });
}

function addControls() {
  element("title").textContent = scene.title;
  element("subtitle").textContent = scene.subtitle;
  for (const channel of channels) {
    const row = document.createElement("label");
    const check = Object.assign(document.createElement("input"), { type: "checkbox", checked: channel.shown });
    const swatch = document.createElement("i");
    swatch.style.background = channel.color;
    const name = Object.assign(document.createElement("b"), { textContent: channel.name });
    const sum = Object.assign(document.createElement("small"), { textContent: `Σ ${channel.sum.toFixed(1)}` });
    row.append(check, swatch, name, sum);
    element("channels").append(row);
    check.addEventListener("change", () => {
      channel.shown = check.checked;
      redraw(true);
    });
  }
  Object.assign(element("level"), { max: highest.toFixed(2), value: Math.min(0.3, highest / 2) });
  element("level").addEventListener("input", () => redraw(true));
  for (const id of ["opacity", "show-sticks", "show-receptor", "show-box"]) element(id).addEventListener("input", redraw);
  element("receptor-row").hidden = sticks.length < 2;
  element("reset").addEventListener("click", () => {
    resetCamera();
    redraw();
  });
}

function addPointer() {
  const held = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, event);
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => held.delete(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    const last = held.get(event.pointerId);
    if (!last) return;
    const [dx, dy] = [event.clientX - last.clientX, event.clientY - last.clientY];
    if (held.size === 2) {
      const other = [...held.values()].find((finger) => finger.pointerId !== event.pointerId);
      const apart = (finger) => Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY) || 1;
      zoom(apart(last) / apart(event));
    } else if (event.shiftKey || event.buttons & 2) {
      const scale = (2 * FIELD * camera.distance) / Math.min(canvas.clientHeight, canvas.clientWidth);
      const r = camera.rotation;
      camera.focus = camera.focus.map((value, axis) => value - scale * (dx * r[4 * axis] - dy * r[4 * axis + 1]));
    } else {
      camera.rotation = turned(camera.rotation, dy * 0.008, dx * 0.008);
    }
    held.set(event.pointerId, event);
    redraw();
  });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(event.deltaY * 0.001));
    redraw();
  }, { passive: false });
}

function zoom(factor) {
  camera.distance = Math.max(2, Math.min(400, camera.distance * factor));
}

addControls();
addPointer();
resetCamera();
window.addEventListener("resize", redraw);
redraw();
