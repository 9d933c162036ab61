export default {
  mode: 'production',
  target: 'node',
  entry: './server.mjs',
  externalsType: 'commonjs',
  externals: [/^tallymesh(\/|$)/],
};
