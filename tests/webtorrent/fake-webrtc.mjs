// Stands in for WebRTC, which Node has not: makes descriptions and remembers what it is told, and never connects.
let made = 0;

export class RTCPeerConnection {
  signalingState = "stable";
  iceConnectionState = "new";
  iceGatheringState = "new";
  connectionState = "new";
  localDescription = null;
  remoteDescription = null;

  createDataChannel(label) {
    return { label, readyState: "connecting", bufferedAmount: 0, close() {} };
  }

  /** With what JSON must escape and what is no ASCII, and as long as one of a browser. */
  #describe(type) {
    made += 1;
    const candidates = "a=candidate:1 1 udp 2113937151 192.0.2.1 50000 typ host\r\n".repeat(20);
    return { type, sdp: `v=0\r\no=- ${process.pid} ${made} IN IP4 127.0.0.1\r\ns="\\ü€"\r\n${candidates}` };
  }

  async createOffer() { return this.#describe("offer"); }
  async createAnswer() { return this.#describe("answer"); }

  async setLocalDescription(description) {
    this.localDescription = description;
    setTimeout(() => {
      this.iceGatheringState = "complete";
      this.onicegatheringstatechange?.();
      this.onicecandidate?.({ candidate: null });
    }, 1);
  }

  async setRemoteDescription(description) { this.remoteDescription = description; }
  async addIceCandidate() {}
  close() {}
}

export class RTCSessionDescription {
  constructor({ type, sdp }) { Object.assign(this, { type, sdp }); }
}

export class RTCIceCandidate {}

export default { RTCPeerConnection, RTCSessionDescription, RTCIceCandidate };
