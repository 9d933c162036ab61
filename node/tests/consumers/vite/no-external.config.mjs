export default { ssr: { noExternal: true, external: ['tallymesh'] } };
