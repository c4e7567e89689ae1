// Node runs this before a client program: it may connect to this machine only.
const net = require('node:net');
const connect = net.Socket.prototype.connect;
const local = new Set(['127.0.0.1', '::1', 'localhost', undefined]);
net.Socket.prototype.connect = function (...args) {
  const options = Array.isArray(args[0]) ? args[0][0] : args[0];
  if (typeof options === 'object' && options !== null && !options.path && !local.has(options.host)) {
    throw new Error(`a client program may reach loopback only, not ${options.host}`);
  }
  return connect.apply(this, args);
};
